"""Landmarks that change places with each other from image to image, such as left and right, told without annotations.

The shape of an image is compared with a typical one. If two landmarks, or all that mirror each other, had changed names, and the
shape fits so much better then, whatever turns, scales and shifts it, they have changed places.

Legend: n images, K landmarks. Shapes are complex, x + iy in unit coordinates of the crop, NaN = missing, so that a similarity is a
multiplication and an addition.
"""

from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Shapes = NDArray[np.complex128]

SAMPLE = 200
"""Images that are compared with each other, spread over all."""
LEAST = 4
"""Landmarks that an image must have: any three fit each other too well in some order."""
BETTER = 0.5
"""A share of its own distance to which a shape must fall with other names."""
UNLIKE = 0.15
"""Distance from the typical shape, in units of its size, below which a shape is taken as it is."""
NEIGHBOURS = 0.25
"""Quantile of distances that a typical shape has small: where half of the shapes are exchanged, each half has a typical one."""

AXES = 24
"""Mirrors that are tried, one every 7.5 degrees."""


def shares_exchanged(points: NDArray[np.floating]) -> NDArray[np.float64]:
    """(K,) share of images (n, K, 2) on which each landmark has the place of another; zeros for fewer than four landmarks."""
    count = points.shape[1]
    shapes = np.asarray(points[..., 0] + 1j * points[..., 1], np.complex128)
    shapes = shapes[np.isfinite(shapes).sum(1) >= LEAST]
    if len(shapes) < 2:
        return np.zeros(count)
    shapes = shapes[np.linspace(0, len(shapes) - 1, min(SAMPLE, len(shapes))).round().astype(int)]
    typical = _typical(shapes)
    orders = np.array([*_pairs(count), mirror(typical)])
    own = distances(shapes, typical)
    others = np.stack([distances(shapes[:, order], typical) for order in orders], 1)
    best = others.argmin(1)
    changed = (own > UNLIKE) & (others.min(1) < BETTER * own)
    moved = orders[best] != np.arange(count)
    return np.asarray((moved & changed[:, None]).mean(0))


def distances(shapes: Shapes, to: Shapes) -> NDArray[np.float64]:
    """(n,) root mean square distance of shapes (n, K) from one (K,) after the similarity that makes it least, as a share of the root mean
    square size of that one; infinite where fewer than four landmarks are on both.
    """
    both = np.isfinite(shapes) & np.isfinite(to)
    count = np.maximum(1, both.sum(1))[:, None]
    ours, theirs = (np.where(both, shape, 0) for shape in (shapes, np.broadcast_to(to, shapes.shape)))
    ours, theirs = (np.where(both, shape - shape.sum(1, keepdims=True) / count, 0) for shape in (ours, theirs))
    size = np.square(np.abs(theirs)).sum(1)
    # What a similarity of one explains of the other is the square of their correlation.
    explained = np.abs((np.conj(ours) * theirs).sum(1)) ** 2 / np.maximum(1e-12, np.square(np.abs(ours)).sum(1))
    rest = np.sqrt(np.maximum(0, 1 - explained / np.maximum(1e-12, size)))
    return np.where(both.sum(1) >= LEAST, rest, np.inf)


def mirror(shape: Shapes) -> NDArray[np.int64]:
    """(K,) for each landmark of a shape (K,) the one that has its place in the mirror in which the shape is most like itself; a
    missing one is its own.
    """
    known = np.flatnonzero(np.isfinite(shape))
    own = shape[known] - shape[known].mean()
    mirrored = (np.conj(own) * np.exp(2j * axis) for axis in np.linspace(0, np.pi, AXES, endpoint=False))
    costs = [np.abs(image[:, None] - own) for image in mirrored]
    orders = [linear_sum_assignment(cost)[1] for cost in costs]
    best = min(range(AXES), key=lambda axis: costs[axis][np.arange(len(own)), orders[axis]].sum())
    order = np.arange(len(shape))
    order[known] = known[orders[best]]
    return order


def _typical(shapes: Shapes) -> Shapes:
    """The one that has its nearest quarter of all shapes nearest, of those with most landmarks."""
    most = shapes[np.isfinite(shapes).sum(1) == np.isfinite(shapes).sum(1).max()]
    nearness = [np.quantile(distances(shapes, shape), NEIGHBOURS, method="lower") for shape in most]
    return np.asarray(most[np.argmin(nearness)])


def _pairs(count: int) -> list[NDArray[np.int64]]:
    """All orders of landmarks in which two have changed places."""
    orders = []
    for first, second in combinations(range(count), 2):
        order = np.arange(count)
        order[[first, second]] = second, first
        orders.append(order)
    return orders
