"""What features cost, from the shapes of a model alone: nothing is computed and no weight is read."""

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from uldscale.diffusion import taps
from uldscale.diffusion.extractor import FeatureConfig
from uldscale.diffusion.folder import locate
from uldscale.diffusion.taps import Tap
from uldscale.errors import ModelError


@dataclass(frozen=True)
class Cost:
    """Of one square image."""

    taps: list[Tap]
    """With the channels that are stored."""
    vae_flops: int
    """One pass of the encoder; a multiply-add counts as two."""
    unet_flops: int
    """One timestep, up to the last tap."""


def measure(config: FeatureConfig, image_size: int) -> Cost:
    """Cost of the features of an image of `image_size` pixels. Raises ModelError when the model's configuration cannot be read."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    folder = locate(config.backbone.model, config.backbone.revision)
    try:
        with torch.device("meta"):
            unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder, subfolder="unet"))
            vae = AutoencoderKL.from_config(AutoencoderKL.load_config(folder, subfolder="vae"))
    except OSError as error:
        raise ModelError(f"{folder} has no readable unet/config.json and vae/config.json: {error}") from error
    side = image_size // 2 ** (len(vae.config.block_out_channels) - 1)
    names = taps.select(unet, config.taps)
    limit = config.codec.channels if config.codec.kind == "pca-int8" else None
    found = [
        tap._replace(channels=min(tap.channels, limit or tap.channels)) for tap in taps.describe(unet, names, side)
    ]
    latents = torch.empty(1, unet.config.in_channels, side, side, device="meta")
    prompt = torch.empty(1, 77, unet.config.cross_attention_dim, device="meta")
    timesteps = torch.zeros(1, dtype=torch.int64, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as unet_flops:
        taps.read(unet, names, latents, timesteps, prompt)
    with torch.no_grad(), FlopCounterMode(display=False) as vae_flops:
        vae.encode(torch.empty(1, 3, image_size, image_size, device="meta"))
    return Cost(found, vae_flops.get_total_flops(), unet_flops.get_total_flops())
