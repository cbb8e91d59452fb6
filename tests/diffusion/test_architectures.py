"""The public architectures: counts and taps that are known, and random weights that keep signals alive."""

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from uldscale.diffusion import architectures, taps
from uldscale.diffusion.architectures import ARCHITECTURES
from uldscale.diffusion.backbone import Backbone, BackboneConfig

SMALL = {
    "block_out_channels": (32, 64),
    "norm_num_groups": 8,
    "cross_attention_dim": 48,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
}


def outline(name: str) -> tuple[UNet2DConditionModel, AutoencoderKL]:
    return architectures.outline(ARCHITECTURES[name].unet, ARCHITECTURES[name].vae)


def attention(name: str) -> list[Attention]:
    return [module for module in outline(name)[0].modules() if isinstance(module, Attention)]


def small(dtype: torch.dtype = torch.float32, seed: int = 0) -> UNet2DConditionModel:
    unet, _ = architectures.outline(SMALL, {})
    architectures.fill(unet, dtype, torch.Generator().manual_seed(seed))
    return unet


@pytest.fixture(scope="module")
def model() -> Backbone:
    """Of full size: 1.9 GB."""
    return Backbone.load(BackboneConfig(model="random-sd15", dtype="bfloat16"))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("random-sd15", 859_520_964), ("random-sd21", 865_910_724), ("random-sdxl", 2_567_463_684)],
)
def test_parameters_are_as_many_as_published(name: str, parameters: int) -> None:
    unet, vae = outline(name)
    assert unet.num_parameters() == parameters
    assert vae.num_parameters() == 83_653_863
    assert {weight.device.type for weight in [*unet.parameters(), *vae.parameters()]} == {"meta"}


@pytest.mark.parametrize(
    ("name", "channels", "sides"),
    [
        ("random-sd15", [1280] * 6 + [640] * 3 + [320] * 3, [8] * 3 + [16] * 3 + [32] * 3 + [64] * 3),
        ("random-sd21", [1280] * 6 + [640] * 3 + [320] * 3, [8] * 3 + [16] * 3 + [32] * 3 + [64] * 3),
        ("random-sdxl", [1280] * 3 + [640] * 3 + [320] * 3, [16] * 3 + [32] * 3 + [64] * 3),
    ],
)
def test_taps_at_512_pixels(name: str, channels: list[int], sides: list[int]) -> None:
    unet, _ = outline(name)
    found = taps.describe(unet, taps.decoder_blocks(unet), 64)
    assert [tap.channels for tap in found] == channels
    assert [tap.side for tap in found] == sides
    assert sum(channels) == (6720 if name == "random-sdxl" else 10_560)


def test_heads_are_8_in_sd_1_and_64_wide_since() -> None:
    assert {part.heads for part in attention("random-sd15")} == {8}
    for name in ("random-sd21", "random-sdxl"):
        assert {part.inner_dim / part.heads for part in attention(name)} == {64}


def test_weights_have_the_variance_of_one_over_fan_in() -> None:
    for module in small().modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and module.weight.numel() > 4000:
            fan_in = module.weight[0].numel()
            assert float(module.weight.detach().var() * fan_in) == pytest.approx(1, abs=0.1)
        if isinstance(module, nn.GroupNorm | nn.LayerNorm):
            assert bool((module.weight == 1).all())
        if isinstance(bias := getattr(module, "bias", None), Tensor):
            assert not bias.any()


def test_weights_follow_the_seed_in_every_dtype() -> None:
    first, again, half, other = (small(), small(), small(torch.bfloat16), small(seed=1))
    for key, weight in first.state_dict().items():
        assert torch.equal(again.state_dict()[key], weight)
        assert torch.equal(half.state_dict()[key], weight.bfloat16())
    assert not torch.equal(other.state_dict()["conv_in.weight"], first.state_dict()["conv_in.weight"])


def test_nothing_but_parameters_needs_numbers() -> None:
    """What `to_empty` leaves undefined beside parameters would be garbage."""
    for name in ARCHITECTURES:
        assert not [buffer for model in outline(name) for buffer in model.buffers()]


class TestFullSize:
    """Stable Diffusion 1.5 with random weights, at the smallest image that it takes."""

    def test_what_it_says_of_itself(self, model: Backbone) -> None:
        assert (model.name, model.weight_hash, model.prediction_type) == ("random-sd15", "random-sd15-1", "epsilon")
        assert (model.dtype, model.pixels_per_cell, model.image_multiple) == (torch.bfloat16, 8, 64)
        assert model.prompt_embeds.shape == (1, 77, 768)
        assert model.pooled_prompt_embeds is None
        assert not any(weight.requires_grad for weight in [*model.unet.parameters(), *model.vae.parameters()])

    def test_signal_to_noise_of_stable_diffusion(self, model: Backbone) -> None:
        """The last step still shows the image: sqrt(0.00466) = 0.068 (Lin et al. 2023, arXiv 2305.08891, table 1)."""
        assert len(model.alphas_cumprod) == 1000
        assert float(model.alphas_cumprod[0]) == pytest.approx(1 - 0.00085, abs=1e-6)
        assert float(model.alphas_cumprod[-1]) ** 0.5 == pytest.approx(0.068265, abs=1e-5)

    def test_signals_neither_vanish_nor_overflow(self, model: Backbone) -> None:
        random = torch.Generator().manual_seed(1)
        with torch.inference_mode():
            latents = model.latents(torch.rand(2, 3, 64, 64, generator=random) * 2 - 1)
            noisy = torch.randn(latents.shape, generator=random).bfloat16()
            names = model.tap_names
            found = taps.read(model.unet, names, noisy, torch.tensor([50, 300]), model.condition(2, 64))
        assert latents.shape == (2, 4, 8, 8)
        assert 0.01 < float(latents.std()) < 10
        assert [tuple(maps.shape[1:]) for maps in found.values()] == [
            (tap.channels, tap.side, tap.side) for tap in taps.describe(model.unet, list(found), 8)
        ]
        assert len(found) == 12
        for maps in found.values():
            spread = maps.float().std(dim=1)
            assert bool(maps.isfinite().all())
            assert float(spread.min()) > 0.1
            assert float(spread.max()) < 10
            assert not torch.equal(maps[0], maps[1])
