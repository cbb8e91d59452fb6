"""The two heads on the aggregated map: where landmarks are (Psi_d) and which they are (Psi_f).

Both are a residual block of three chained 3x3 convolutions whose outputs are laid side by side, a 1x1 convolution, and
a last 1x1; they share nothing, so that one can be frozen.

Legend: B batch, G side of the grid, D descriptor size.
Source: paper section 3.2; the block is that of the face alignment network used by Mallis et al. (paper reference 32).
"""

import math

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from uldscale.config import Settings
from uldscale.models.aggregator import group_norm

_PRIOR = 0.07  # share of cells near a landmark; starting there keeps the empty cells from ruling the first steps


class HeadConfig(Settings):
    """Sizes of the heads' outputs."""

    descriptor: int = Field(128, ge=2)
    """Numbers in a descriptor (D)."""


class ResidualBlock(nn.Module):
    """Maps (B, width, G, G) to the same shape; width must be a multiple of 4."""

    def __init__(self, width: int) -> None:
        super().__init__()
        sizes = [width, width // 2, width // 4, width // 4]
        self.steps = nn.ModuleList(
            nn.Sequential(group_norm(size), nn.ReLU(), nn.Conv2d(size, after, 3, padding=1, bias=False))
            for size, after in zip(sizes, sizes[1:], strict=False)
        )

    def forward(self, maps: Tensor) -> Tensor:
        outputs = [maps]
        for step in self.steps:
            outputs.append(step(outputs[-1]))
        return maps + torch.cat(outputs[1:], 1)


class Detector(nn.Module):
    """Logits (B, 1, G, G) of the heatmap from an aggregated map (B, width, G, G); their sigmoid starts near 0.07."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.trunk = _trunk(width)
        self.last = nn.Conv2d(width, 1, 1)
        nn.init.constant_(self.last.bias, math.log(_PRIOR / (1 - _PRIOR)))  # type: ignore[arg-type]

    def forward(self, maps: Tensor) -> Tensor:
        logits: Tensor = self.last(self.trunk(maps))
        return logits


class Descriptor(nn.Module):
    """Descriptors (B, D, G, G) of unit norm along D, from an aggregated map (B, width, G, G)."""

    def __init__(self, width: int, config: HeadConfig) -> None:
        super().__init__()
        self.trunk = _trunk(width)
        self.last = nn.Conv2d(width, config.descriptor, 1)

    def forward(self, maps: Tensor) -> Tensor:
        descriptors: Tensor = self.last(self.trunk(maps))
        # bfloat16 would leave norms half a percent off
        return functional.normalize(descriptors.to(torch.promote_types(descriptors.dtype, torch.float32)), dim=1)


def _trunk(width: int) -> nn.Sequential:
    return nn.Sequential(ResidualBlock(width), nn.Conv2d(width, width, 1, bias=False), group_norm(width), nn.ReLU())
