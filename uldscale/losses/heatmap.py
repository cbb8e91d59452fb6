"""Pseudo-label heatmaps and the detector's loss (paper sections 3.2 and 3.3.1).

Legend: B batch, M points of an image, G side of the grid.
"""

import torch
from torch import Tensor


def targets(points: Tensor, valid: Tensor, grid: int, sigma: float) -> Tensor:
    """Heatmaps (B, 1, G, G) of points (B, M, 2) in unit coordinates: a Gaussian of height 1 at each, the larger where
    two meet.

    `sigma` is in cells. Points that are not `valid` (B, M), missing (NaN) or outside the crop are left out.
    """
    if points.shape[1] == 0:
        return points.new_zeros(len(points), 1, grid, grid)
    drawn = valid & ((points >= 0) & (points <= 1)).all(-1)
    centres = torch.arange(grid, device=points.device, dtype=points.dtype) + 0.5
    distance = points.masked_fill(~drawn[..., None], 0.0)[..., None] * grid - centres
    horizontal, vertical = torch.exp(-distance.square() / (2 * sigma**2)).unbind(2)
    gaussians = vertical[..., :, None] * horizontal[..., None, :] * drawn[..., None, None]
    return gaussians.amax(1, keepdim=True)


def heatmap_loss(logits: Tensor, target: Tensor, positive_weight: float) -> Tensor:
    """Squared error of the sigmoid of logits (B, 1, G, G) against targets in [0, 1], averaged over all cells.

    Cells weigh from 1 where empty to `positive_weight` on landmarks: so few hold one that at 1 an empty map is nearly
    right.
    """
    weight = 1 + (positive_weight - 1) * target
    return (weight * (logits.sigmoid() - target).square()).mean()
