"""A mix of diffusion features without parameters, so that ZeroShot depends on no training.

B images, T timesteps, L taps of one resolution, C channels, M points.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional


def uniform_descriptors(features: Mapping[str, Tensor], scales: Mapping[str, Tensor], points: Tensor) -> Tensor:
    """Descriptors (B, M, sum of T L C) of unit norm at `points` (B, M, 2) in unit coordinates.

    `features` are stored maps (B, T, L, C, H, W) by resolution, `scales` (L, C) turns their codes into values. Every tap at every
    timestep is brought to unit norm at each cell, read bilinearly, and counts the same.
    """
    grid = (points * 2 - 1)[:, None]
    parts = []
    for name, maps in features.items():
        values = functional.normalize(maps.float() * scales[name][:, :, None, None], dim=3)
        read = functional.grid_sample(
            values.flatten(1, 3), grid, mode="bilinear", padding_mode="border", align_corners=False
        )
        parts.append(read[:, :, 0].transpose(1, 2))
    return functional.normalize(torch.cat(parts, dim=-1), dim=-1)
