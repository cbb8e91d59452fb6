"""Landmarks of a heatmap and a map of descriptors: for each the place where both agree most.

Detector and descriptor together say how likely landmark k is in a cell: heat there, times a Gaussian of the distance between the
cell's descriptor and the landmark's centroid. The best cell of an image is its exemplar. So no landmark takes the place of another,
as in non-maximum suppression, where of two close ones the weaker is pushed aside: on real faces landmarks drifted apart by a cell
in five rounds.

Legend: B batch, G side of the grid, D descriptor size, K landmarks.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from uldscale.models.keypoints import log_heat, sample

_SPREAD = 0.4
"""Standard deviation of that Gaussian: half the margin that training puts between landmarks. Measured on real faces after 150 and after
900 steps of self-training: 0.3 to 0.7 are equal within 1 %, 0.1 costs 20 % of backward NME, 1.0 as much and more."""
_REACH = 3
"""Cells around the best one, along x and y, that have a say in the position; a Gaussian of one cell is over by then."""
_SHARPNESS = 2.0
"""Power of the score that weighs these cells. On real faces after 450 steps forward and backward NME are 4.96 / 3.52 and landmarks of
a moved image 1.45 px of 128 away (consistency); 5.03 / 3.58 and 1.58 px with power 1, 4.96 / 3.63 and 1.45 px with 4, and 5.02 / 3.81
and 1.62 px with a quadratic fit to the nearest cells."""


class Located(NamedTuple):
    """Landmarks of a batch."""

    points: Tensor
    """(B, K, 2) unit coordinates (x, y); NaN where missing"""
    scores: Tensor
    """(B, K) heat times agreement, in [0, 1]; 0 where missing"""
    descriptors: Tensor
    """(B, K, D) of unit norm; zeros where missing"""


def locate(heat: Tensor, descriptors: Tensor, centroids: Tensor, inside: Tensor, threshold: float) -> Located:
    """Landmarks with centroids (B, K, D), on heatmaps (B, 1, G, G) in [0, 1] and descriptors (B, D, G, G) of unit norm.

    The best cell is one that is `inside` (B, G, G); a landmark whose score there is below the threshold is missing. Its position is
    the centre of mass of the squared score around that cell. No gradient.
    """
    maps = descriptors.detach().float()
    gap = (
        centroids.square().sum(-1)[..., None, None] + 1 - 2 * torch.einsum("bkd,bdgh->bkgh", centroids, maps)
    ).clamp_min(0)
    likely = log_heat(heat.detach().float()) - gap / (2 * _SPREAD**2)
    best, cells = likely.masked_fill(~inside[:, None], -torch.inf).flatten(2).max(-1)
    found = best.exp() >= threshold
    points = _centres(likely, cells).where(found[..., None], torch.nan)
    return Located(points, best.exp().where(found, 0.0), sample(maps, points))


def _centres(likely: Tensor, cells: Tensor) -> Tensor:
    """Unit coordinates (B, K, 2) of the mass around cells (B, K), numbered in raster order, of log scores (B, K, G, G)."""
    grid = likely.shape[-1]
    numbers = torch.arange(grid, device=cells.device)
    rows, columns = ((numbers - middle[..., None]).abs() <= _REACH for middle in (cells // grid, cells % grid))
    around = rows[..., :, None] & columns[..., None, :]
    mass = (_SHARPNESS * likely).masked_fill(~around, -torch.inf).flatten(2).softmax(-1).view_as(likely)
    x, y = ((mass.sum(axis) * (numbers + 0.5)).sum(-1) / grid for axis in (-2, -1))
    return torch.stack([x, y], -1)
