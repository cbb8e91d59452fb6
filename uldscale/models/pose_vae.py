"""Pose VAE (Psi_V): a heatmap becomes a latent pose code, and a heatmap again.

Strided convolutions halve the map down to 4x4; the decoder mirrors them with nearest upsampling, which leaves no
checkerboard. Paper section 3.3.1 fixes the latent size of 64 and one channel in and out; the rest is ours.

Legend: B batch, G side of the grid, Z latent size.
"""

import math
from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from uldscale.config import Settings
from uldscale.models.aggregator import group_norm

_CORE = 4  # side of the smallest map
_PRIOR = 0.05  # mean of a heatmap, where the decoder starts


class VaeConfig(Settings):
    """Sizes of the pose VAE."""

    latent: int = Field(64, ge=1)
    """Numbers in a pose code (Z)."""
    width: int = Field(32, ge=4)
    """Channels after the first convolution; doubled at every halving, up to eight times."""


class Reconstruction(NamedTuple):
    """What one pass through the VAE gives."""

    logits: Tensor
    """(B, 1, G, G)"""
    mean: Tensor
    """(B, Z)"""
    log_variance: Tensor
    """(B, Z)"""


class PoseVae(nn.Module):
    """VAE of heatmaps (B, 1, G, G) with values in [0, 1]. Raises ValueError unless G is a power of two, at least 8."""

    def __init__(self, grid: int, config: VaeConfig) -> None:
        super().__init__()
        halvings = round(math.log2(grid / _CORE))
        if halvings < 1 or _CORE << halvings != grid:
            raise ValueError(f"the grid of a pose VAE must be a power of two, at least {2 * _CORE}, but is {grid}")
        sizes = [config.width * min(2**step, 8) for step in range(halvings)]
        flat = sizes[-1] * _CORE * _CORE
        self.encoder = nn.Sequential(
            *(_down(size, after) for size, after in zip([1, *sizes], sizes, strict=False)),
            nn.Flatten(),
            nn.Linear(flat, 2 * config.latent),
        )
        self.decoder = nn.Sequential(
            nn.Linear(config.latent, flat),
            nn.Unflatten(1, (sizes[-1], _CORE, _CORE)),
            *(_up(size, after) for size, after in zip(sizes[::-1], [*sizes[-2::-1], sizes[0]], strict=True)),
            _last(sizes[0]),
        )

    def encode(self, heat: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (B, Z) and log variance (B, Z) of the pose code of heatmaps (B, 1, G, G)."""
        mean, log_variance = self.encoder(heat).chunk(2, 1)
        return mean, log_variance

    def decode(self, codes: Tensor) -> Tensor:
        """Logits (B, 1, G, G) of the heatmaps of codes (B, Z)."""
        logits: Tensor = self.decoder(codes)
        return logits

    def forward(self, heat: Tensor, noise: Tensor) -> Reconstruction:
        """Reconstruction of heatmaps from sampled codes.

        `noise` (B, Z) is standard normal (zeros: the mean). The caller draws it, so that it can belong to the image and
        the step and not to the worker.
        """
        mean, log_variance = self.encode(heat)
        return Reconstruction(self.decode(mean + noise * torch.exp(log_variance / 2)), mean, log_variance)


def _down(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 3, stride=2, padding=1), group_norm(width), nn.ReLU())


def _up(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Upsample(scale_factor=2), nn.Conv2d(channels, width, 3, padding=1), group_norm(width), nn.ReLU()
    )


def _last(channels: int) -> nn.Conv2d:
    convolution = nn.Conv2d(channels, 1, 3, padding=1)
    nn.init.constant_(convolution.bias, math.log(_PRIOR / (1 - _PRIOR)))  # type: ignore[arg-type]
    return convolution
