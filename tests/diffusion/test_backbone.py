"""Loading a diffusion model: what it is, what it hashes, and one clear line for all that can be wrong with it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file

from uldscale.diffusion.backbone import Backbone, BackboneConfig
from uldscale.errors import ModelError

UNET_FILE = "unet/diffusion_pytorch_model.safetensors"
EMBEDDING = ("linear_1.weight", "linear_1.bias", "linear_2.weight", "linear_2.bias")


def load(folder: Path | str, **settings: str) -> Backbone:
    return Backbone.load(BackboneConfig(model=str(folder), **settings))


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


def test_latents_are_shifted_and_scaled_as_the_vae_says(copy: Path) -> None:
    """shift_factor is one number, latents_mean and latents_std are one per channel."""
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    mean = load(copy).latents(images) / 0.5
    edit_json(copy / "vae/config.json", shift_factor=0.25)
    torch.testing.assert_close(load(copy).latents(images), (mean - 0.25) * 0.5)
    channels = [1.0, -2.0, 3.0, 0.5]
    edit_json(copy / "vae/config.json", shift_factor=None, latents_mean=channels, latents_std=[2.0, 1.0, 4.0, 1.0])
    expected = [(mean[:, i] - channels[i]) * 0.5 / [2, 1, 4, 1][i] for i in range(4)]
    torch.testing.assert_close(load(copy).latents(images), torch.stack(expected, dim=1))


def test_condition_is_the_prompt_for_every_image(ldm: Path) -> None:
    model = load(ldm, dtype="bfloat16")
    condition = model.condition(5, 16)
    assert list(condition) == ["encoder_hidden_states"]
    assert condition["encoder_hidden_states"].dtype == torch.bfloat16
    assert torch.equal(condition["encoder_hidden_states"], model.prompt_embeds.repeat(5, 1, 1))


def test_the_unet_of_sdxl_hears_what_its_pipeline_tells_it(sdxl: Path) -> None:
    model = load(sdxl, prompt="face")
    pipeline = StableDiffusionXLPipeline.from_pretrained(sdxl)
    embeds, _, pooled, _ = pipeline.encode_prompt("face", None, "cpu", 1, False)
    sizes = pipeline._get_add_time_ids((16, 16), (0, 0), (16, 16), torch.float32, 10)
    latents, timesteps = torch.randn(3, 4, 8, 8), torch.tensor([1, 50, 300])
    added = {"text_embeds": pooled.repeat(3, 1), "time_ids": sizes.repeat(3, 1)}
    with torch.no_grad():
        expected = pipeline.unet(latents, timesteps, embeds.repeat(3, 1, 1), added_cond_kwargs=added).sample
        found = model.unet(latents, timesteps, **model.condition(3, 16)).sample
        elsewhere = model.unet(latents, timesteps, **model.condition(3, 64)).sample
    torch.testing.assert_close(found, expected)
    assert not torch.equal(elsewhere, found)


def test_hash_depends_on_all_weights_and_not_on_who_wrote_them(ldm: Path, copy: Path) -> None:
    first = load(ldm).weight_hash
    assert load(copy).weight_hash == first
    edit_json(copy / "unet/config.json", _name_or_path="elsewhere", _diffusers_version="0.1")
    config = copy / "vae/config.json"
    config.write_text(json.dumps(dict(reversed(json.loads(config.read_text()).items()))))
    (copy / "unet/notes.txt").write_text("not a weight")
    assert load(copy).weight_hash == first
    hashes = {first}
    for part in (UNET_FILE, "vae/diffusion_pytorch_model.safetensors", "prompt_embeds.safetensors"):
        weights = load_file(copy / part)
        name = min(weights)
        save_file({**weights, name: weights[name] + 1}, copy / part)
        hashes.add(load(copy).weight_hash)
    assert len(hashes) == 4


@pytest.mark.parametrize(
    ("file", "setting"),
    [
        ("scheduler/scheduler_config.json", {"beta_schedule": "linear"}),
        ("scheduler/scheduler_config.json", {"prediction_type": "v_prediction"}),
        ("vae/config.json", {"scaling_factor": 0.25}),
        ("unet/config.json", {"act_fn": "gelu"}),
        ("text_encoder/config.json", {"hidden_act": "gelu"}),
    ],
)
def test_hash_depends_on_what_is_done_with_the_weights(texts: Path, file: str, setting: dict[str, object]) -> None:
    before = load(texts).weight_hash
    edit_json(texts / file, **setting)
    assert load(texts).weight_hash != before
    assert Backbone.outline(BackboneConfig(model=str(texts))).weight_hash == load(texts).weight_hash


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

    @pytest.mark.parametrize("kind", ["FlowMatchEulerDiscreteScheduler", "EDMEulerScheduler"])
    def test_scheduler_without_betas(self, copy: Path, kind: str) -> None:
        (copy / "scheduler/scheduler_config.json").write_text(json.dumps({"_class_name": kind}))
        self.refuses(copy, f"scheduler is of {kind} and has no betas; wanted a model of diffusion with a beta_schedule")

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

    def test_a_model_for_inpainting(self, copy: Path) -> None:
        edit_json(copy / "unet/config.json", in_channels=9)
        weights = load_file(copy / UNET_FILE)
        save_file({**weights, "conv_in.weight": torch.zeros(16, 9, 3, 3)}, copy / UNET_FILE)
        self.refuses(copy, "unet takes 9 channels, but the VAE makes 4; wanted .* not one for inpainting")


def test_a_real_model(shared: Path) -> None:
    model = load(shared / "models/faces68-ldm")
    assert model.weight_hash.startswith("4f12fd6640db")
    assert model.prompt_embeds.shape == (1, 1, 32)
    assert (model.pixels_per_cell, model.image_multiple) == (4, 16)


def test_outline_is_the_model_without_its_numbers(ldm: Path, sdxl: Path) -> None:
    for model in (str(ldm), str(sdxl)):
        whole, outline = Backbone.load(BackboneConfig(model=model)), Backbone.outline(BackboneConfig(model=model))
        assert (outline.name, outline.weight_hash) == (whole.name, whole.weight_hash)
        assert (outline.prediction_type, outline.image_multiple) == (whole.prediction_type, whole.image_multiple)
        assert torch.equal(outline.alphas_cumprod, whole.alphas_cumprod)
        shapes = {name: value.shape for name, value in whole.unet.state_dict().items()}
        assert {name: value.shape for name, value in outline.unet.state_dict().items()} == shapes
        assert all(value.device.type == "meta" for value in outline.vae.state_dict().values())
        assert outline.condition(2, 16).keys() == whole.condition(2, 16).keys()


def test_outline_needs_no_weights_where_their_hash_is_not_wanted(copy: Path) -> None:
    for file in copy.rglob("*.safetensors"):
        file.unlink()
    assert Backbone.outline(BackboneConfig(model=str(copy)), weights=False).weight_hash == ""
    with pytest.raises(ModelError, match="no text_encoder to embed"):
        Backbone.outline(BackboneConfig(model=str(copy)))
