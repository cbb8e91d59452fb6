"""Bootstrapping loss: two views of one image, whose correspondence is known, teach descriptors and detector (paper
section 3.2).

Descriptors: a cell must be most similar to its own cell in the other view, among all cells, in both directions.
Detector: a cell is a keypoint when its mutual nearest neighbour in the other view is its true correspondence; the
target is made by the descriptors and moves with them.

Written from a description of SiLK (paper reference 13). SiLK divides by 0.1 after scaling descriptors to norm 1.41;
with unit norm that is a temperature of 0.0503.

Means are taken over the matched cells of an image, then over images, so that the mean over ranks is the mean of one big
batch. An image without matched cells counts as 0, and so does a batch without pairs. Memory: one matrix of G⁴ numbers
per pair, 67 MB at G = 64.

Legend: B pairs of views, D descriptor size, G side of the grid, n = G² cells in raster order.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class SilkLoss(NamedTuple):
    """The two parts of the loss; their sum is minimised."""

    descriptor: Tensor
    """Negative log-likelihood in nats, both directions summed; 2 ln n for descriptors that are all equal."""
    detector: Tensor
    """Binary cross entropy in nats."""


def silk_loss(
    descriptors_a: Tensor,
    descriptors_b: Tensor,
    logits_a: Tensor,
    logits_b: Tensor,
    matrices_ab: Tensor,
    temperature: float = 0.1,
) -> SilkLoss:
    """Loss of B pairs of views: unit descriptors (B, D, G, G), detector logits (B, 1, G, G), and matrices (B, 3, 3)
    that map unit coordinates of view a to view b. Mirrored pairs teach that left is right; leave them out beforehand.
    Temperatures below 0.03 would underflow in float32.
    """
    precision = torch.promote_types(descriptors_a.dtype, torch.float32)
    maps = (descriptors_a, descriptors_b, logits_a, logits_b)
    views = [view.flatten(2).to(precision) for view in maps]
    matches = correspondences(matrices_ab, descriptors_a.shape[-1])
    pairs = [
        _pair_loss(a, b, heat_a, heat_b, match, temperature)
        for a, b, heat_a, heat_b, match in zip(*views, matches, strict=True)
    ]
    nothing = torch.stack([descriptors_a.sum() + descriptors_b.sum(), logits_a.sum() + logits_b.sum()]) * 0
    descriptor, detector = sum(pairs, nothing) / max(len(pairs), 1)
    return SilkLoss(descriptor, detector)


def correspondences(matrices_ab: Tensor, grid: int) -> Tensor:
    """(B, n) number of the cell of view b that a cell of view a goes to, -1 where there is none.

    The centre of a cell is moved and floored to a cell; the match stands when the way back ends in the first cell.
    """
    there = _landing(matrices_ab.double(), grid)
    back = _landing(torch.linalg.inv(matrices_ab.double()), grid)
    home = torch.arange(grid * grid, device=matrices_ab.device)
    returned = back.gather(1, there.clamp_min(0)) == home
    return there.where((there >= 0) & returned, -1)


def _landing(matrices: Tensor, grid: int) -> Tensor:
    centres = (torch.arange(grid, device=matrices.device, dtype=matrices.dtype) + 0.5) / grid
    points = torch.cartesian_prod(centres, centres).flip(1)  # raster order, as (x, y)
    moved = points @ matrices[:, :2, :2].mT + matrices[:, None, :2, 2]
    column, row = (moved * grid).floor().long().unbind(-1)
    inside = (column >= 0) & (column < grid) & (row >= 0) & (row < grid)
    return (row * grid + column).where(inside, -1)


def _pair_loss(a: Tensor, b: Tensor, logits_a: Tensor, logits_b: Tensor, match: Tensor, temperature: float) -> Tensor:
    matched = match >= 0
    count = matched.sum().clamp_min(1)
    cell = match.clamp_min(0)
    # Cosines are at most 1, so one exponential of (cosine - 1) / temperature serves rows and columns without overflow.
    likelihood = torch.addmm(a.new_full((), -1 / temperature), a.mT, b, alpha=1 / temperature).exp()
    true = ((a * b[:, cell]).sum(0) - 1) / temperature
    surprise = likelihood.sum(1).log() + likelihood.sum(0).log()[cell] - 2 * true
    found = _mutual(likelihood.detach(), cell).to(true.dtype)
    errors = _entropy(logits_a[0], found) + _entropy(logits_b[0, cell], found)
    return torch.stack([(surprise * matched).sum() / count, (errors * matched).sum() / (2 * count)])


def _mutual(likelihood: Tensor, cell: Tensor) -> Tensor:
    """(n,) bool: cell i and its true cell are each other's most similar."""
    true = likelihood.gather(1, cell[:, None])[:, 0]
    # Not argmax: on a CPU the largest value is found fourteen times as fast as its place.
    return (true == likelihood.amax(1)) & (true == likelihood.amax(0)[cell])


def _entropy(logits: Tensor, target: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
