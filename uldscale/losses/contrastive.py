"""Contrastive losses on pseudo-labels: equal labels together, others at least a margin apart (paper equations 3 to 5).

All pairs of the batch are used. The paper's sum over sampled pairs leaves their number open, and in the cited code some
10,000 negatives face 30 positives; here the mean over the positives and the mean over the negatives weigh the same,
whatever their numbers are. `negatives` says over which: among "all" a pair that is too near is one of many; among those
that are "near", within the margin, it is heard however many others are far. `squared` squares both terms as the cited
code does, which is smooth where the paper's form has kinks.

Several processes may share the work: each has `own` rows, looks at their pairs with all rows, and divides by a number of pairs that
is added over all of them (`total`). Their results add up to the loss, and n² numbers of memory become own x n.

Legend: n descriptors, D descriptor size, B images, Z latent size.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Policy = Literal["ignore_cross_pose", "fine", "global"]
Negatives = Literal["all", "near"]

Total = Callable[[Tensor], Tensor]

_EPSILON = 1e-6  # keeps the slope of the root finite where two descriptors meet
_ALL = slice(None)


def _alone(count: Tensor) -> Tensor:
    return count


def descriptor_loss(
    descriptors: Tensor,
    labels: Tensor,
    image: Tensor,
    points: Tensor,
    *,
    margin: float = 0.8,
    min_distance: float = 5.7 / 64,
    squared: bool = True,
    poses: Tensor | None = None,
    policy: Policy = "ignore_cross_pose",
    negatives: Negatives = "all",
    own: slice = _ALL,
    total: Total = _alone,
) -> Tensor:
    """Loss of descriptors (n, D) with landmark labels (n,), -1 for rows that are not there; 0 where there is no pair.

    Positives have the same label on another image or view; negatives have another label, and on the same one are at
    least `min_distance` apart. `image` (n,) numbers the image and view; `points` (n, 2) and `min_distance` are in unit
    coordinates.

    `poses` (n,) are the pose labels of the images, and `policy` says what the same landmark in two poses is: neither
    positive nor negative ("ignore_cross_pose"), a negative as the paper's joint labels have it ("fine"), or a positive
    ("global"). At cosine 0.68 unit descriptors are exactly 0.8 apart.
    """
    same = _equal(labels, own)
    same_pose = torch.ones_like(same) if poses is None else _equal(poses, own)
    same_image = _equal(image, own)
    gap = (points[own, None] - points[None]).norm(dim=-1)
    there = (labels[own, None] >= 0) & (labels[None] >= 0)
    positive = same if policy == "global" else same & same_pose
    negative = ~positive if policy == "fine" else ~same
    pull, push = there & positive & ~same_image, there & negative & (~same_image | (gap > min_distance))
    return _pull_push(descriptors, own, pull, push, margin, squared, negatives, total)


def latent_loss(
    codes: Tensor,
    labels: Tensor,
    *,
    margin: float = 0.8,
    raw: bool = False,
    squared: bool = True,
    negatives: Negatives = "all",
    own: slice = _ALL,
    total: Total = _alone,
) -> Tensor:
    """Loss of pose codes (B, Z) with pose labels (B,), paper equations 3 and 5; 0 where there is no pair.

    Distances are in units of the length of a code, the root of Z under the VAE's prior, unless codes are left `raw`: so the margin
    means what it means for descriptors, whose length is 1. Poses are 6 to 11 apart in raw codes of 64 numbers: a margin of 0.8 there
    lets them be drawn together, and five rounds took their purity from 0.79 to 0.72 instead of 0.77.
    """
    same, itself = _equal(labels, own), _equal(torch.arange(len(labels), device=labels.device), own)
    scaled = codes if raw else codes / math.sqrt(codes.shape[1])
    return _pull_push(scaled, own, same & ~itself, ~same, margin, squared, negatives, total)


def _equal(labels: Tensor, own: slice) -> Tensor:
    return labels[own, None] == labels[None]


def _pull_push(
    vectors: Tensor,
    own: slice,
    positive: Tensor,
    negative: Tensor,
    margin: float,
    squared: bool,
    negatives: Negatives,
    total: Total,
) -> Tensor:
    square = _squared_distances(vectors.to(torch.promote_types(vectors.dtype, torch.float32)), own)
    distance = (square + _EPSILON).sqrt()
    short = (margin - distance).clamp_min(0)
    if negatives == "near":
        negative = negative & (short > 0)
    pull, push = (square, short.square()) if squared else (distance, short)
    sums = torch.stack([(pull * positive).sum(), (push * negative).sum()])
    counts = total(torch.stack([positive.sum(), negative.sum()]))
    return (sums / counts.clamp_min(1)).sum()


def _squared_distances(vectors: Tensor, own: slice) -> Tensor:
    norms = vectors.square().sum(1)
    return (norms[own, None] + norms[None] - 2 * vectors[own] @ vectors.T).clamp_min(0)
