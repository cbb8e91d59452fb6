"""FLOPs against a count by hand and published figures; nothing but configuration files is read."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from uldscale.diffusion.backbone import Backbone
from uldscale.diffusion.cost import Cost, measure
from uldscale.diffusion.extractor import FeatureConfig
from uldscale.errors import ModelError

TERA = 1e12


def cost(model: Path | str, size: int, **settings: Any) -> Cost:
    config = FeatureConfig.model_validate({"backbone": {"model": str(model)}, **settings})
    return measure(config, Backbone.outline(config.backbone, weights=False), size)


def count(model: nn.Module, *inputs: Tensor, **more: Any) -> Counter[str]:
    """Multiply-adds by module, twice: k x k x Cin for every number of a convolution, 2 x L x L' x width for attention."""
    found: Counter[str] = Counter()

    def see(name: str, module: nn.Module, inputs: Any, keywords: dict[str, Any], output: Tensor) -> None:
        if isinstance(module, nn.Conv2d | nn.Linear):
            found[name] += 2 * output.numel() * module.weight[0].numel()
        if isinstance(module, Attention):
            text = keywords.get("encoder_hidden_states")
            queries = inputs[0].flatten(2).shape[-1] if inputs[0].ndim == 4 else inputs[0].shape[1]
            found[name] += 4 * queries * (queries if text is None else text.shape[1]) * module.inner_dim

    for name, module in model.named_modules():
        module.register_forward_hook(lambda *seen, name=name: see(name, *seen), with_kwargs=True)
    with torch.no_grad():
        model(*inputs, **more)
    return found


def test_unet_against_a_count_by_hand(ldm: Path) -> None:
    unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(ldm / "unet"))
    found = count(unet, torch.zeros(1, 4, 16, 16), torch.zeros(1), encoder_hidden_states=torch.zeros(1, 77, 6))
    assert found["conv_in"] == 2 * 16 * 16 * 16 * 9 * 4
    after_the_last_tap = found["up_blocks.1.resnets.1.conv_shortcut"] + found["conv_out"]
    assert cost(ldm, 32).call_flops == found.total() - after_the_last_tap


def test_sdxl_against_a_count_by_hand(sdxl: Path) -> None:
    unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(sdxl / "unet"))
    added = {"text_embeds": torch.zeros(1, 10), "time_ids": torch.zeros(1, 6)}
    condition = {"encoder_hidden_states": torch.zeros(1, 77, 14), "added_cond_kwargs": added}
    found = count(unet, torch.zeros(1, 4, 8, 8), torch.zeros(1), **condition)
    assert found["add_embedding.linear_1"] == 2 * (10 + 6 * 4) * 64
    after_the_last_tap = found["up_blocks.1.resnets.1.conv_shortcut"] + found["conv_out"]
    assert cost(sdxl, 16).call_flops == found.total() - after_the_last_tap


def test_vae_against_a_count_by_hand(ldm: Path) -> None:
    vae = AutoencoderKL.from_config(AutoencoderKL.load_config(ldm / "vae"))
    found = count(vae.encoder, torch.zeros(1, 3, 32, 32)) + count(vae.quant_conv, torch.zeros(1, 8, 16, 16))
    assert cost(ldm, 32).latent_flops == found.total()


def test_stable_diffusion_costs_what_is_published() -> None:
    """At 512 px: 339 G multiply-adds without the products of attention (BK-SDM, arXiv 2305.15798), 0.80 TFLOP with them."""
    found = cost("random-sd15", 512)
    assert 0.68 < found.call_flops / TERA < 0.81
    assert found.latent_flops / TERA == pytest.approx(1.1, abs=0.05)


def test_sdxl_costs_what_is_published() -> None:
    """At 1024 px: 2.99 T multiply-adds without the products of attention in 10 + 60 blocks, self and cross."""
    attention = 10 * 4 * 64**2 * (64**2 + 77) * 640 + 60 * 4 * 32**2 * (32**2 + 77) * 1280
    assert cost("random-sdxl", 1024).call_flops == pytest.approx(2 * 2.99e12 + attention, rel=0.005)


def test_fewer_taps_cost_less() -> None:
    assert cost("random-sd15", 512, taps=("up_blocks.0.resnets.0",)).call_flops < cost("random-sd15", 512).call_flops


def test_calls_of_the_unet() -> None:
    assert cost("tiny-ldm", 128, timesteps=(1, 50, 99)).calls == 3
    assert cost("tiny-ldm", 128, mode="clean", timesteps=(0,)).calls == 1
    walk = cost("tiny-ldm", 128, mode="inversion", timesteps=(-1, 60))
    assert walk.calls == 5
    assert walk.flops == walk.latent_flops + 5 * walk.call_flops


@pytest.mark.parametrize("name", ["tiny-ldm", "random-sd21"])
def test_named_models(name: str) -> None:
    found = cost(name, 128)
    assert found.call_flops > 0
    assert found.latent_flops > 0


def test_no_weight_is_read(copy: Path) -> None:
    before = cost(copy, 32)
    for file in copy.rglob("*.safetensors"):
        file.unlink()
    assert cost(copy, 32) == before


def test_a_folder_without_configuration(copy: Path) -> None:
    (copy / "vae/config.json").unlink()
    with pytest.raises(ModelError, match="no readable unet/config.json and vae/config.json: "):
        cost(copy, 32)


def test_a_model_that_cannot_be_used_costs_nothing(copy: Path) -> None:
    file = copy / "unet/config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "num_class_embeds": 10}))
    with pytest.raises(ModelError, match="more than a prompt embedding"):
        cost(copy, 32)
