"""Loading a diffusion model: what it is, what it hashes, and one clear line for all that can be wrong with it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from uldscale.diffusion.backbone import Backbone, BackboneConfig
from uldscale.errors import ModelError

UNET_FILE = "unet/diffusion_pytorch_model.safetensors"
EMBEDDING = ("linear_1.weight", "linear_1.bias", "linear_2.weight", "linear_2.bias")


def load(folder: Path | str, **settings: str) -> Backbone:
    return Backbone.load(BackboneConfig(model=str(folder), **settings))


@pytest.fixture
def copy(ldm: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(ldm, tmp_path / "copy"))


def edit_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_half_precision_files_are_computed_in_float32(ldm: Path) -> None:
    model = load(ldm)
    assert load_file(ldm / UNET_FILE)["conv_in.bias"].dtype == torch.float16
    assert {p.dtype for part in (model.unet, model.vae) for p in part.parameters()} == {torch.float32}
    assert not any(p.requires_grad for part in (model.unet, model.vae) for p in part.parameters())
    assert not model.unet.training
    assert not model.vae.training
    assert (model.name, model.dtype, model.device) == (ldm.name, torch.float32, torch.device("cpu"))
    assert (model.pixels_per_cell, model.image_multiple) == (2, 4)


def test_bfloat16(ldm: Path) -> None:
    model = load(ldm, dtype="bfloat16")
    assert {p.dtype for part in (model.unet, model.vae) for p in part.parameters()} == {torch.bfloat16}
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    assert model.latents(images).dtype == torch.float32
    torch.testing.assert_close(model.latents(images), load(ldm).latents(images), atol=0.02, rtol=0.05)


def test_noise_schedule_is_scaled_linear(ldm: Path) -> None:
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    np.testing.assert_allclose(load(ldm).alphas_cumprod, np.cumprod(1 - betas), rtol=1e-4)
    assert load(ldm).prediction_type == "epsilon"


def test_a_v_prediction_model_with_another_scheduler_loads(copy: Path) -> None:
    DDIMScheduler(prediction_type="v_prediction", beta_schedule="linear", steps_offset=1).save_pretrained(
        copy / "scheduler"
    )
    model = load(copy)
    assert model.prediction_type == "v_prediction"
    np.testing.assert_allclose(model.alphas_cumprod, np.cumprod(1 - np.linspace(1e-4, 0.02, 1000)), rtol=1e-4)


def test_latents_are_the_scaled_mean_of_the_posterior(ldm: Path) -> None:
    vae = AutoencoderKL.from_pretrained(ldm / "vae", low_cpu_mem_usage=False).float().eval()
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        moments = vae.quant_conv(vae.encoder(images))
        latents = load(ldm).latents(images)
    assert latents.shape == (2, 4, 8, 8)
    torch.testing.assert_close(latents, 0.5 * moments[:, :4])


def test_prompt_embedding_of_the_folder(ldm: Path, copy: Path) -> None:
    embeds = load_file(ldm / "prompt_embeds.safetensors")["prompt_embeds"]
    assert torch.equal(load(ldm).prompt_embeds, embeds[None])
    save_file({"prompt_embeds": embeds[None].half()}, copy / "prompt_embeds.safetensors")
    assert load(copy).prompt_embeds.shape == (1, 3, 6)


def test_hash_depends_on_all_weights_and_on_nothing_else(ldm: Path, copy: Path) -> None:
    first = load(ldm).weight_hash
    assert load(copy).weight_hash == first
    edit_json(copy / "unet/config.json", _name_or_path="elsewhere")
    (copy / "unet/notes.txt").write_text("not a weight")
    assert load(copy).weight_hash == first
    hashes = {first}
    for part in (UNET_FILE, "vae/diffusion_pytorch_model.safetensors", "prompt_embeds.safetensors"):
        weights = load_file(copy / part)
        name = min(weights)
        save_file({**weights, name: weights[name] + 1}, copy / part)
        hashes.add(load(copy).weight_hash)
    assert len(hashes) == 4


class TestText:
    """A model with a text encoder in place of the stored embedding."""

    @pytest.fixture
    def folder(self, copy: Path) -> Path:
        (copy / "prompt_embeds.safetensors").unlink()
        words = ["<|startoftext|>", "<|endoftext|>", "f", "a", "c", "e</w>", "e", "fa", "ce</w>"]
        (copy / "tokenizer").mkdir()
        (copy / "tokenizer/vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
        (copy / "tokenizer/merges.txt").write_text("#version: 0.2\nf a\nc e</w>\n")
        tokenizer = CLIPTokenizer(
            str(copy / "tokenizer/vocab.json"), str(copy / "tokenizer/merges.txt"), model_max_length=7
        )
        tokenizer.save_pretrained(copy / "tokenizer")
        torch.manual_seed(0)
        config = CLIPTextConfig(
            vocab_size=len(words),
            hidden_size=6,
            intermediate_size=8,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=7,
            bos_token_id=0,
            eos_token_id=1,
        )
        CLIPTextModel(config).save_pretrained(copy / "text_encoder")
        return copy

    @pytest.mark.parametrize("prompt", ["", "face", "face face face face face face face face"])
    def test_embedding_is_that_of_stable_diffusion(self, folder: Path, prompt: str) -> None:
        model = load(folder, prompt=prompt)
        pipeline = StableDiffusionPipeline(
            vae=model.vae,
            unet=model.unet,
            text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder"),
            tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
            scheduler=DDIMScheduler.from_pretrained(folder / "scheduler"),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        expected, _ = pipeline.encode_prompt(prompt, "cpu", 1, False)
        assert model.prompt_embeds.shape == (1, 7, 6)
        torch.testing.assert_close(model.prompt_embeds, expected)

    def test_a_tokenizer_in_one_file(self, folder: Path) -> None:
        before = load(folder, prompt="face").prompt_embeds
        (folder / "tokenizer/vocab.json").unlink()
        (folder / "tokenizer/merges.txt").unlink()
        assert torch.equal(load(folder, prompt="face").prompt_embeds, before)

    def test_prompts_differ_and_the_encoder_is_part_of_the_hash(self, folder: Path, ldm: Path) -> None:
        assert not torch.equal(load(folder).prompt_embeds, load(folder, prompt="face").prompt_embeds)
        assert load(folder).weight_hash != load(ldm).weight_hash

    def test_a_missing_tokenizer_is_not_replaced_by_an_empty_one(self, folder: Path) -> None:
        shutil.rmtree(folder / "tokenizer")
        with pytest.raises(ModelError, match="tokenizer lacks vocab.json and merges.txt, or tokenizer.json"):
            load(folder)

    def test_gaps_in_the_text_encoder(self, folder: Path) -> None:
        file = folder / "text_encoder/model.safetensors"
        weights = load_file(file)
        weights.pop(max(weights))
        save_file(weights, file, {"format": "pt"})
        with pytest.raises(ModelError, match="text_encoder: the file lacks 1 of the weights"):
            load(folder)


class TestWrong:
    """One line each; `match` sees the whole of it."""

    def refuses(self, folder: Path | str, message: str, **settings: str) -> None:
        with pytest.raises(ModelError, match=message) as caught:
            load(folder, **settings)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("part", ["unet", "vae"])
    def test_missing_part(self, copy: Path, part: str) -> None:
        shutil.rmtree(copy / part)
        self.refuses(copy, f"{part}/config.json is not there; wanted a diffusers folder with unet, vae and scheduler")

    def test_missing_scheduler(self, copy: Path) -> None:
        shutil.rmtree(copy / "scheduler")
        self.refuses(copy, "scheduler cannot be read")

    @pytest.mark.parametrize("content", [b"junk", None])
    def test_damaged_prompt_embedding(self, copy: Path, content: bytes | None) -> None:
        file = copy / "prompt_embeds.safetensors"
        file.write_bytes(content) if content else save_file({"other": torch.zeros(1)}, file)
        self.refuses(copy, "prompt_embeds.safetensors does not hold prompt_embeds: ")

    def test_pickled_weights(self, copy: Path) -> None:
        (copy / UNET_FILE).rename(copy / "unet/diffusion_pytorch_model.bin")
        self.refuses(copy, "no safetensors, only config.json, diffusion_pytorch_model.bin; pickles are never read")

    def test_damaged_weights(self, copy: Path) -> None:
        (copy / UNET_FILE).write_bytes((copy / UNET_FILE).read_bytes()[:1000])
        self.refuses(copy, "unet cannot be read as UNet2DConditionModel: ")

    def test_weights_of_another_shape(self, copy: Path) -> None:
        edit_json(copy / "vae/config.json", block_out_channels=[8, 24])
        self.refuses(copy, "vae cannot be read as AutoencoderKL: ")

    def test_gaps_are_not_filled_with_random_numbers(self, copy: Path) -> None:
        weights = load_file(copy / UNET_FILE)
        weights.pop("conv_in.bias")
        save_file(weights, copy / UNET_FILE)
        self.refuses(copy, "unet: the file lacks 1 of the weights of config.json, first 'conv_in.bias'")

    def test_a_prompt_without_text_encoder(self, ldm: Path) -> None:
        self.refuses(ldm, "no text_encoder to embed the prompt 'a face'", prompt="a face")

    def test_more_conditions_than_a_prompt(self, copy: Path) -> None:
        edit_json(copy / "unet/config.json", class_embed_type="timestep", time_embedding_dim=64)
        weights = load_file(copy / UNET_FILE)
        embedding = {f"class_embedding.{key}": weights[f"time_embedding.{key}"].clone() for key in EMBEDDING}
        save_file({**weights, **embedding}, copy / UNET_FILE)
        self.refuses(copy, r"needs more than a prompt embedding \(class_embed_type: timestep\); wanted .* 2.x kind")


def test_a_real_model(shared: Path) -> None:
    model = load(shared / "models/faces68-ldm")
    assert model.weight_hash.startswith("8a63cfaec9d3")
    assert model.prompt_embeds.shape == (1, 1, 32)
    assert (model.pixels_per_cell, model.image_multiple) == (4, 16)
