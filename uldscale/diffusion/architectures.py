"""The public architectures as data, to be built with random weights.

For plans, benchmarks and tests on hardware: `backbone.model: random-sd15` costs what Stable Diffusion 1.5 costs and needs
no download. Its features carry no information about landmarks. Source: config.json of unet and vae, and
scheduler_config.json, of stable-diffusion-v1-5, stable-diffusion-2-1 and stable-diffusion-xl-base-1.0; config.json of
dinov2-small, -base, -large and -giant.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel

Kind = Literal["stable-diffusion", "cleandift", "dinov2"]
"""Of backbones."""

VERSION = 1
"""Part of the hash of random weights: raise it when `fill` draws others."""

SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}
"""Noise schedule of all diffusion models, as arguments of DDPMScheduler of diffusers."""


@dataclass(frozen=True)
class Architecture:
    """unet, vae: arguments of UNet2DConditionModel and AutoencoderKL of diffusers, where they differ from its defaults."""

    unet: Mapping[str, Any]
    vae: Mapping[str, Any]
    prediction_type: str = "epsilon"
    kind: Kind = "stable-diffusion"


@dataclass(frozen=True)
class VisionTransformer:
    """config: arguments of Dinov2Config of transformers, where they differ from its defaults."""

    config: Mapping[str, Any]
    kind: Kind = "dinov2"


_UNET = {
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
    "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
}
_VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "scaling_factor": 0.18215,
}

# What diffusers calls attention_head_dim is the number of heads.
ARCHITECTURES = {
    "random-sd15": Architecture(
        unet={**_UNET, "sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
        vae={**_VAE, "sample_size": 512},
    ),
    "random-sd21": Architecture(
        unet={
            **_UNET,
            "sample_size": 96,
            "cross_attention_dim": 1024,
            "attention_head_dim": (5, 10, 20, 20),
            "use_linear_projection": True,
        },
        vae={**_VAE, "sample_size": 768},
        prediction_type="v_prediction",
    ),
    "random-sdxl": Architecture(
        unet={
            "sample_size": 128,
            "block_out_channels": (320, 640, 1280),
            "layers_per_block": 2,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2, 10),
            "cross_attention_dim": 2048,
            "attention_head_dim": (5, 10, 20),
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
        vae={**_VAE, "sample_size": 1024, "scaling_factor": 0.13025},
    ),
}
"""Diffusion models, by the name that a job file gives as backbone.model."""
ARCHITECTURES |= {
    f"random-cleandift-{name}": replace(ARCHITECTURES[f"random-{name}"], kind="cleandift") for name in ("sd15", "sd21")
}


def _dinov2(width: int, layers: int, **more: Any) -> VisionTransformer:
    heads = width // 64
    return VisionTransformer(
        {"image_size": 518, "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads, **more}
    )


TRANSFORMERS = {
    "random-dinov2-small": _dinov2(384, 12),
    "random-dinov2-base": _dinov2(768, 12),
    "random-dinov2-large": _dinov2(1024, 24),
    "random-dinov2-giant": _dinov2(1536, 40, use_swiglu_ffn=True),
}
RANDOM: Mapping[str, Architecture | VisionTransformer] = {**ARCHITECTURES, **TRANSFORMERS}
"""All of them."""


def outline(unet: Mapping[str, Any], vae: Mapping[str, Any]) -> tuple["UNet2DConditionModel", "AutoencoderKL"]:
    """UNet and VAE of these configurations on the meta device: shapes without numbers or memory."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    with torch.device("meta"):
        return UNet2DConditionModel.from_config(dict(unet)), AutoencoderKL.from_config(dict(vae))


def fill(model: nn.Module, dtype: torch.dtype, random: torch.Generator) -> None:
    """Turn a model on the meta device into one on the CPU, with random weights of variance 1 / fan-in.

    Layers then keep the size of their input about, so that activations neither vanish nor overflow. Norms keep gain 1,
    biases are 0. One state of `random` gives the same weights, but for rounding, in every dtype.
    """
    # The `to` of diffusers warns of modules to be kept in float32 even where there are none.
    nn.Module.to(model, dtype).to_empty(device="cpu")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 1:
                weight.fill_(0.0 if name.endswith("bias") else 1.0)
            else:
                weight.copy_(torch.randn(weight.shape, generator=random) / math.sqrt(weight[0].numel()))
