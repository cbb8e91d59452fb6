"""Landmarks of a heatmap and a map of descriptors: for each the place where both agree most.

Detector and descriptor together say how likely landmark k is in a cell: heat there, times a Gaussian of the distance between the
cell's descriptor and the landmark's centroid. The best cell of an image is its exemplar. So no landmark takes the place of another,
as in non-maximum suppression, where of two close ones the weaker is pushed aside: on real faces landmarks drifted apart by a cell
in five rounds.

Legend: B batch, G side of the grid, D descriptor size, K landmarks.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from uldscale.models.keypoints import KeypointConfig, Keypoints, detect, log_heat, refine, sample

_SPREAD = 0.4
"""Standard deviation of that Gaussian: half the margin that training puts between landmarks. Measured on real faces after 150 and after
900 steps of self-training: 0.3 to 0.7 are equal within 1 %, 0.1 costs 20 % of backward NME, 1.0 as much and more."""
_REACH = 3
"""Cells around the best one, along x and y, that have a say in a centre of mass; a Gaussian of one cell is over by then."""
_SHARPNESS = 2.0
"""Power of the score that weighs these cells; 1 and 4 are worse (benchmarks/results/open_points.md)."""

Placing = Callable[[Tensor, Tensor], Tensor]
"""Unit coordinates (B, K, 2) near cells (B, K), numbered in raster order, of log scores (B, K, G, G)."""


class Located(NamedTuple):
    """Landmarks of a batch."""

    points: Tensor
    """(B, K, 2) unit coordinates (x, y); NaN where missing"""
    scores: Tensor
    """(B, K) heat times agreement, in [0, 1]; 0 where missing"""
    descriptors: Tensor
    """(B, K, D) of unit norm; zeros where missing"""


def find(heat: Tensor, descriptors: Tensor, centroids: Tensor, inside: Tensor, config: KeypointConfig) -> Located:
    """Landmarks as a detector has them: see `locate`, or `exemplars` where keypoints are peaks."""
    if config.source == "peaks":
        return exemplars(detect(heat, config, inside), descriptors, centroids)
    return locate(heat, descriptors, centroids, inside, config.visible)


def centre_of_mass(likely: Tensor, cells: Tensor) -> Tensor:
    """The centre of mass of the squared score around the cells: calm when the image moves, but drawn towards other heat."""
    grid = likely.shape[-1]
    numbers = torch.arange(grid, device=cells.device)
    rows, columns = ((numbers - middle[..., None]).abs() <= _REACH for middle in (cells // grid, cells % grid))
    around = rows[..., :, None] & columns[..., None, :]
    mass = (_SHARPNESS * likely).masked_fill(~around, -torch.inf).flatten(2).softmax(-1).view_as(likely)
    x, y = ((mass.sum(axis) * (numbers + 0.5)).sum(-1) / grid for axis in (-2, -1))
    return torch.stack([x, y], -1)


def vertex(likely: Tensor, cells: Tensor) -> Tensor:
    """The top of a parabola through the nearest cells: exact for a Gaussian whatever is around it, and restless."""
    return refine(likely.flatten(0, 1), cells.view(-1, 1)).view(*cells.shape, 2)


def locate(
    heat: Tensor,
    descriptors: Tensor,
    centroids: Tensor,
    inside: Tensor,
    threshold: float,
    place: Placing = centre_of_mass,
) -> Located:
    """Landmarks with centroids (B, K, D), on heatmaps (B, 1, G, G) in [0, 1] and descriptors (B, D, G, G) of unit norm.

    The best cell is one that is `inside` (B, G, G); a landmark whose score there is below the threshold is missing. `place` says where
    it is near that cell. No gradient.
    """
    maps = descriptors.detach().float()
    gap = (
        centroids.square().sum(-1)[..., None, None] + 1 - 2 * torch.einsum("bkd,bdgh->bkgh", centroids, maps)
    ).clamp_min(0)
    likely = log_heat(heat.detach().float()) - gap / (2 * _SPREAD**2)
    best, cells = likely.masked_fill(~inside[:, None], -torch.inf).flatten(2).max(-1)
    found = best.exp() >= threshold
    points = place(likely, cells).where(found[..., None], torch.nan)
    return Located(points, best.exp().where(found, 0.0), sample(maps, points))


def exemplars(peaks: Keypoints, descriptors: Tensor, centroids: Tensor) -> Located:
    """Landmarks with centroids (B, K, D) among the peaks of a heatmap (paper 3.1): of those nearest to a centroid the nearest.

    A landmark that no peak is nearest to is missing. No gradient.
    """
    found = sample(descriptors.detach().float(), peaks.points)
    gaps = torch.cdist(found, centroids).masked_fill(~peaks.valid[..., None], torch.inf)
    owned = gaps == gaps.amin(-1, keepdim=True)
    best, which = gaps.masked_fill(~owned, torch.inf).min(1)
    missing = best.isinf()
    points = peaks.points.gather(1, which[..., None].expand(-1, -1, 2)).masked_fill(missing[..., None], torch.nan)
    scores = peaks.scores.gather(1, which).masked_fill(missing, 0.0)
    return Located(points, scores, sample(descriptors.detach().float(), points))
