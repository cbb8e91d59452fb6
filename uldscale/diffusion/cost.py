"""What features cost, from the shapes of a model alone: nothing is computed and no weight is read."""

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from uldscale.diffusion import noising, taps
from uldscale.diffusion.backbone import Backbone
from uldscale.diffusion.extractor import FeatureConfig


@dataclass(frozen=True)
class Cost:
    """Of one square image, with a prompt of 77 tokens; a multiply-add counts as two operations."""

    vae_flops: int
    """One pass of the encoder."""
    unet_flops: int
    """One call of the UNet, up to the last tap."""
    unet_calls: int
    """For all timesteps together."""

    @property
    def flops(self) -> int:
        """All that the features take."""
        return self.vae_flops + self.unet_calls * self.unet_flops


def measure(config: FeatureConfig, outline: Backbone, image_size: int) -> Cost:
    """Cost of the features of an image of `image_size` pixels by a model from Backbone.outline."""
    side = image_size // outline.pixels_per_cell
    names = taps.select(outline.unet, config.taps)
    with torch.device("meta"), torch.no_grad():
        images, latents = (
            torch.empty(1, 3, image_size, image_size),
            torch.empty(1, outline.unet.config.in_channels, side, side),
        )
        timesteps = torch.zeros(1, dtype=torch.int64)
        with FlopCounterMode(display=False) as unet_flops:
            taps.read(outline.unet, names, latents, timesteps, outline.condition(1, image_size))
        with FlopCounterMode(display=False) as vae_flops:
            outline.vae.encode(images)
    return Cost(vae_flops.get_total_flops(), unet_flops.get_total_flops(), _calls(config, len(outline.alphas_cumprod)))


def _calls(config: FeatureConfig, training_steps: int) -> int:
    if config.mode == "inversion":
        return noising.inversion_timesteps(training_steps).index(config.timesteps[-1]) + 1
    return len(config.timesteps)
