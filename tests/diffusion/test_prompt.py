"""The prompt embedding is what the pipelines of diffusers make of the text, and one clear line says why it cannot be had."""

import shutil
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTokenizer

from uldscale.diffusion.prompt import Prompt, random_prompt, read, weights
from uldscale.errors import ModelError

STORED = "prompt_embeds.safetensors"
PROMPTS = ["", "face", "face face face face face face face face"]


def config(folder: Path, **changes: object) -> dict[str, object]:
    return {**UNet2DConditionModel.load_config(folder / "unet"), **changes}


def embed(folder: Path, text: str = "") -> Prompt:
    return read(str(folder), text, config(folder))


def refuses(folder: Path, message: str, text: str = "", **changes: object) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        read(str(folder), text, config(folder, **changes))
    assert "\n" not in str(caught.value)


class TestStored:
    def test_of_any_precision_and_with_or_without_a_batch(self, ldm: Path, copy: Path) -> None:
        embeds = load_file(ldm / STORED)["prompt_embeds"]
        assert torch.equal(embed(ldm).embeds, embeds[None])
        assert weights(str(ldm), "", config(ldm)) == [STORED]
        save_file({"prompt_embeds": embeds[None].half()}, copy / STORED)
        assert torch.equal(embed(copy).embeds, embeds[None].half().float())

    def test_of_sdxl_in_place_of_its_text_encoders(self, sdxl: Path) -> None:
        embedded = embed(sdxl)
        for part in ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"):
            shutil.rmtree(sdxl / part)
        assert embedded.pooled is not None
        save_file({"prompt_embeds": embedded.embeds[0], "pooled_prompt_embeds": embedded.pooled[0]}, sdxl / STORED)
        assert all(torch.equal(*pair) for pair in zip(embed(sdxl), embedded, strict=True))

    @pytest.mark.parametrize("content", [b"junk", None])
    def test_damaged(self, copy: Path, content: bytes | None) -> None:
        file = copy / STORED
        file.write_bytes(content) if content else save_file({"other": torch.zeros(1)}, file)
        refuses(copy, f"{STORED} does not hold prompt_embeds: ")

    def test_without_the_pooled_half(self, sdxl: Path) -> None:
        save_file({"prompt_embeds": torch.zeros(7, 14)}, sdxl / STORED)
        refuses(sdxl, f"{STORED} does not hold prompt_embeds and pooled_prompt_embeds: ")

    def test_of_another_model(self, ldm: Path) -> None:
        message = r"widths \(6, None\) \(tokens, pooled\), the UNet takes \(768, None\); take both from one model"
        refuses(ldm, message, cross_attention_dim=768)


class TestText:
    @pytest.mark.parametrize("prompt", PROMPTS)
    def test_embedding_is_that_of_stable_diffusion(self, texts: Path, prompt: str) -> None:
        pipeline = StableDiffusionPipeline(
            vae=None,
            unet=None,
            text_encoder=CLIPTextModel.from_pretrained(texts / "text_encoder"),
            tokenizer=CLIPTokenizer.from_pretrained(texts / "tokenizer"),
            scheduler=None,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        expected, _ = pipeline.encode_prompt(prompt, "cpu", 1, False)
        found = embed(texts, prompt)
        assert found.embeds.shape == (1, 7, 6)
        assert torch.equal(found.embeds, expected)
        assert found.pooled is None

    @pytest.mark.parametrize("prompt", PROMPTS)
    def test_embedding_is_that_of_sdxl(self, sdxl: Path, prompt: str) -> None:
        pipeline = StableDiffusionXLPipeline.from_pretrained(sdxl)
        expected, _, pooled, _ = pipeline.encode_prompt(prompt, None, "cpu", 1, False)
        found = embed(sdxl, prompt)
        assert found.embeds.shape == (1, 7, 6 + 8)
        assert torch.equal(found.embeds, expected)
        assert found.pooled is not None
        assert torch.equal(found.pooled, pooled)

    def test_a_prompt_needs_encoders_even_beside_a_stored_one(self, texts: Path, ldm: Path) -> None:
        shutil.copy(ldm / STORED, texts / STORED)
        assert torch.equal(embed(texts).embeds, embed(ldm).embeds)
        assert embed(texts, "face").embeds.shape == (1, 7, 6)

    def test_every_encoder_counts_as_a_weight_file(self, texts: Path, sdxl: Path) -> None:
        assert weights(str(texts), "", config(texts)) == ["text_encoder/model.safetensors"]
        names = [f"text_encoder{suffix}/model.safetensors" for suffix in ("", "_2")]
        assert weights(str(sdxl), "", config(sdxl)) == names

    def test_a_tokenizer_in_one_file(self, texts: Path) -> None:
        before = embed(texts, "face").embeds
        (texts / "tokenizer/vocab.json").unlink()
        (texts / "tokenizer/merges.txt").unlink()
        assert torch.equal(embed(texts, "face").embeds, before)

    @pytest.mark.parametrize("part", ["tokenizer", "tokenizer_2"])
    def test_a_missing_tokenizer_is_not_replaced_by_an_empty_one(self, sdxl: Path, part: str) -> None:
        shutil.rmtree(sdxl / part)
        refuses(sdxl, f"{part} lacks vocab.json and merges.txt, or tokenizer.json")

    def test_gaps_in_the_text_encoder(self, texts: Path) -> None:
        file = texts / "text_encoder/model.safetensors"
        weights = load_file(file)
        weights.pop(max(weights))
        save_file(weights, file, {"format": "pt"})
        refuses(texts, "text_encoder: the file lacks 1 of the weights")

    def test_a_prompt_without_text_encoder(self, ldm: Path) -> None:
        refuses(ldm, "no text_encoder to embed the prompt 'a face'; wanted text_encoder, or prompt_embeds", "a face")

    def test_the_sdxl_refiner_has_no_first_encoder(self, sdxl: Path) -> None:
        shutil.rmtree(sdxl / "text_encoder")
        refuses(sdxl, "no text_encoder to embed .*; wanted text_encoder and text_encoder_2, or prompt_embeds")


class TestCondition:
    def test_of_sdxl(self) -> None:
        prompt = Prompt(torch.rand(1, 7, 14).bfloat16(), torch.rand(1, 10).bfloat16())
        condition = prompt.condition(2, 1024)
        added = condition["added_cond_kwargs"]
        assert torch.equal(condition["encoder_hidden_states"], prompt.embeds.repeat(2, 1, 1))
        assert torch.equal(added["text_embeds"], prompt.pooled.repeat(2, 1))
        assert added["time_ids"].tolist() == [[1024, 1024, 0, 0, 1024, 1024]] * 2
        assert added["time_ids"].dtype == torch.bfloat16

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("class_embed_type", "timestep"),
            ("num_class_embeds", 1000),
            ("addition_embed_type", "text_image"),
            ("encoder_hid_dim_type", "image_proj"),
        ],
    )
    def test_more_than_a_prompt(self, ldm: Path, key: str, value: object) -> None:
        refuses(ldm, rf"more than a prompt embedding \({key}: {value}\); wanted .* XL base kind", **{key: value})

    def test_an_aesthetic_score_in_place_of_a_size(self, sdxl: Path) -> None:
        """The SDXL refiner takes five numbers."""
        message = r"the UNet takes \(14, 6\); .* the SDXL refiner, which .* is not supported"
        refuses(sdxl, message, projection_class_embeddings_input_dim=10 + 5 * 4)


def test_a_random_prompt_fits_and_is_the_same_for_the_same_seed(sdxl: Path) -> None:
    first, second = (random_prompt(config(sdxl), torch.Generator().manual_seed(3)) for _ in range(2))
    assert first.embeds.shape == (1, 77, 14)
    assert first.pooled is not None
    assert first.pooled.shape == (1, 10)
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))
