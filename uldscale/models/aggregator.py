"""Aggregator: the taps of a diffusion model at all timesteps become one map (the trainable part of Psi_b).

F = sum over taps l and timesteps t of w(l, t) * B_l(r(l, t)), paper equation 2, with one bottleneck B_l per tap shared
over the timesteps and w a softmax over all (tap, timestep). Layout of diffusion hyperfeatures: 1x1, 3x3, 1x1 and a 1x1
shortcut, every convolution without bias and followed by GroupNorm.

The paper resizes a tap before its bottleneck. The other order costs (grid / side)² times less; from there on everything
up to the sum is linear, so maps are mixed at their own resolution and resized once each.

Legend: B batch, T timesteps, L taps of one resolution, C stored channels, H = W side of a tap, G side of the working
grid.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from uldscale.config import Settings

_CODE_RMS = 40.0  # rms of Gaussian values in int8 codes when 127 is reached at 3.2 standard deviations


class AggregatorConfig(Settings):
    """Widths of the bottlenecks and how their outputs are mixed."""

    hidden: int = Field(96, ge=1)
    """Channels inside a bottleneck."""
    width: int = Field(384, ge=4, multiple_of=4)
    """Channels of the aggregated map."""
    mixing: Literal["softmax", "plain"] = "softmax"
    """Mixing weights of (tap, timestep): a softmax over all of them, or free numbers as equation 2 is printed."""
    upsample_first: bool = True
    """Resize taps to the grid before their bottleneck, as in the paper; false is much cheaper."""


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm with 32 groups, or fewer where a group would have less than three channels and erase what they say."""
    groups = max(count for count in range(1, 33) if channels % count == 0 and count <= max(1, channels // 3))
    return nn.GroupNorm(groups, channels)


class Bottleneck(nn.Module):
    """Maps (B, C, H, W) to (B, width, H, W), not negative."""

    def __init__(self, channels: int, hidden: int, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_convolution(channels, hidden, 1),
            nn.ReLU(),
            *_convolution(hidden, hidden, 3),
            nn.ReLU(),
            *_convolution(hidden, width, 1),
        )
        self.shortcut = nn.Sequential(*_convolution(channels, width, 1))

    def forward(self, maps: Tensor) -> Tensor:
        return torch.relu(self.body(maps) + self.shortcut(maps))


class Resolution(nn.Module):
    """The L taps of one resolution, from stored codes to one map; `scales` (L, C) are the values of a code's step."""

    steps: Tensor

    def __init__(self, scales: Tensor, config: AggregatorConfig) -> None:
        super().__init__()
        self.register_buffer("steps", _normalised(scales))
        self.bottlenecks = nn.ModuleList(Bottleneck(scales.shape[1], config.hidden, config.width) for _ in scales)

    def forward(self, codes: Tensor, weights: Tensor, side: int | None) -> Tensor:
        """Maps (B, width, side, side) of codes (B, T, L, C, H, W) mixed by weights (L, T); side None keeps H and W."""
        wanted = (weights.shape[1], *self.steps.shape)
        if codes.shape[1:4] != wanted:
            raise ValueError(f"features have (T, L, C) = {tuple(codes.shape[1:4])}, but the aggregator takes {wanted}")
        mixed = []
        for tap, bottleneck in enumerate(self.bottlenecks):
            values = (codes[:, :, tap] * self.steps[tap, :, None, None]).flatten(0, 1)
            outputs = bottleneck(_resize(values, side or values.shape[-1])).unflatten(0, codes.shape[:2])
            # Not einsum: as a product of matrices with a side of T numbers it takes three times as long on a CPU.
            mixed.append((outputs * weights[tap, :, None, None, None]).sum(1))
        return torch.stack(mixed).sum(0)


class Aggregator(nn.Module):
    """One map from all taps and timesteps.

    `scales` gives for each resolution ("r08", "r16", ...) the (L, C) values of one step of the stored codes.
    """

    def __init__(self, scales: Mapping[str, Tensor], num_timesteps: int, grid: int, config: AggregatorConfig) -> None:
        super().__init__()
        self.grid = grid
        self.config = config
        self.taps = {name: len(scales[name]) for name in sorted(scales)}
        self.resolutions = nn.ModuleDict({name: Resolution(scales[name], config) for name in self.taps})
        num_taps = sum(self.taps.values())
        start = 1.0 if config.mixing == "softmax" else 1.0 / (num_taps * num_timesteps)
        self.mixing = nn.Parameter(torch.full((num_taps, num_timesteps), start))

    def mixing_weights(self) -> Tensor:
        """(taps, T) weights, taps in the order of the resolutions' names."""
        if self.config.mixing == "plain":
            return self.mixing
        return self.mixing.flatten().softmax(0).view_as(self.mixing)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Aggregated map (B, width, G, G) of the stored features {name: (B, T, L, C, H, W)}, int8 codes or floats.

        Raises ValueError when the features have other timesteps, taps or channels than the aggregator.
        """
        weights = torch.split(self.mixing_weights(), list(self.taps.values()))
        side = self.grid if self.config.upsample_first else None
        maps = [
            _resize(self.resolutions[name](features[name], weight, side), self.grid)
            for name, weight in zip(self.taps, weights, strict=True)
        ]
        return torch.stack(maps).sum(0)


def _convolution(channels: int, width: int, kernel: int) -> tuple[nn.Conv2d, nn.GroupNorm]:
    convolution = nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return convolution, group_norm(width)


def _normalised(scales: Tensor) -> Tensor:
    # A step covers a fixed share of its channel's spread, so the steps' rms gives the tap's rms up to a constant. That
    # is exact enough: after convolutions without bias GroupNorm removes a tap's overall scale, this only keeps it far
    # from its epsilon.
    relative = scales / scales.amax(1, keepdim=True)  # the square of a dead tap's tiny scales would be 0
    return relative / (_CODE_RMS * relative.square().mean(1, keepdim=True).sqrt())


def _resize(maps: Tensor, side: int) -> Tensor:
    """Maps (..., H, H) on another side: bilinear, or means of cells where it is smaller (bilinear would skip cells)."""
    if maps.shape[-1] == side:
        return maps
    # As two products of matrices: interpolation and its gradient take five to seven times as long on a CPU.
    weights = _resizing(maps, side)
    return weights @ maps @ weights.mT


def _resizing(maps: Tensor, side: int) -> Tensor:
    """(side, H): a row is what a cell takes of each of the H before."""
    cells = torch.eye(maps.shape[-1], dtype=maps.dtype, device=maps.device)[None]
    if maps.shape[-1] > side:
        return functional.adaptive_avg_pool1d(cells, side)[0].mT
    return functional.interpolate(cells, side, mode="linear")[0].mT
