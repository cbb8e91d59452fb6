"""What features cost, from the shapes of a model alone: nothing is computed and no weight is read."""

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from uldscale.diffusion import noising, taps
from uldscale.diffusion.backbone import Backbone
from uldscale.diffusion.extractor import FeatureConfig
from uldscale.diffusion.stable_diffusion import StableDiffusion


@dataclass(frozen=True)
class Cost:
    """Of one square image, with a prompt of 77 tokens; a multiply-add counts as two operations."""

    latent_flops: int
    """Of what is done once: a pass of the encoder of the VAE."""
    call_flops: int
    """One call of the UNet or the transformer, up to the last tap."""
    calls: int
    """For all timesteps together."""

    @property
    def flops(self) -> int:
        """All that the features take."""
        return self.latent_flops + self.calls * self.call_flops


def measure(config: FeatureConfig, outline: Backbone, image_size: int) -> Cost:
    """Cost of the features of an image of `image_size` pixels by a model from Backbone.outline."""
    names = taps.select(outline.tap_names, config.taps)
    with torch.device("meta"), torch.no_grad():
        with FlopCounterMode(display=False) as once:
            latents = outline.latents(torch.empty(1, 3, image_size, image_size))
        with FlopCounterMode(display=False) as call:
            outline.maps(names, latents, torch.zeros(1, dtype=torch.int64))
    return Cost(once.get_total_flops(), call.get_total_flops(), _calls(config, outline))


def _calls(config: FeatureConfig, outline: Backbone) -> int:
    if config.mode == "inversion":
        assert isinstance(outline, StableDiffusion)  # Nothing else can be inverted.
        return noising.inversion_timesteps(len(outline.alphas_cumprod)).index(config.timesteps[-1]) + 1
    return len(config.timesteps)
