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

from uldscale.models.keypoints import log_heat, refine, sample

_SPREAD = 0.4
"""Standard deviation of that Gaussian: half the margin that training puts between landmarks. Measured on real faces after 150 and after
900 steps of self-training: 0.3 to 0.7 are equal within 1 %, 0.1 costs 20 % of backward NME, 1.0 as much and more."""


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

    Only cells that are `inside` (B, G, G) count; a landmark whose score is below the threshold is missing. Positions are refined
    by a quadratic fit to the logarithm of the score, which is exact for a Gaussian. No gradient.
    """
    maps = descriptors.detach().float()
    gap = (
        centroids.square().sum(-1)[..., None, None] + 1 - 2 * torch.einsum("bkd,bdgh->bkgh", centroids, maps)
    ).clamp_min(0)
    likely = log_heat(heat.detach().float()) - gap / (2 * _SPREAD**2)
    best, cells = likely.masked_fill(~inside[:, None], -torch.inf).flatten(2).max(-1)
    places = refine(likely.flatten(0, 1), cells.view(-1, 1)).view(*cells.shape, 2)
    found = best.exp() >= threshold
    points = places.where(found[..., None], torch.nan)
    return Located(points, best.exp().where(found, 0.0), sample(maps, points))
