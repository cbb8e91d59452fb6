"""Lloyd's iterations on a CPU (Lloyd 1982), with every core and the same bits whatever their number.

A block of points is ranked by one product of matrices and summed by cluster by another one, in one trip through the cache; what the
blocks give is added in their order, in float64. Many points are clustered in samples that grow, each of which holds the one before: the
first is cheap enough for several starts and all iterations that they need, after which all points take a few.

Legend: n points, d their size, k centroids.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from uldscale.clustering.blocks import ROWS, blocks, in_threads
from uldscale.clustering.nearest import Scores, farthest, nearest, require_finite

MAX_ITERATIONS = 100
GAIN = 1e-5
"""Least share of the inertia that an iteration saves, or it is the last."""
SAME = 1e-6
"""Points are the same that are no farther apart than this share of their distance from zero."""
FIRST_SAMPLE = 8192
"""Points of the first sample, and at least"""
FIRST_SAMPLE_EACH = 200
"""for each centroid."""
GROWTH = 4


def fit(
    points: NDArray[np.float32], k: int, *, seed: int, init: NDArray[np.float32] | None, n_init: int
) -> NDArray[np.float32]:
    """Centroids (k, d) of points (n, d), as `kmeans.fit` has it. Raises ValueError when a point is not finite."""
    if init is not None:
        return Cloud.of(points).descend(init.astype(np.float32))[1]
    order = np.random.default_rng(seed).permutation(len(points))
    first, *larger = _sizes(len(points), k)
    centroids = _best_start(points[np.sort(order[:first])], k, seed, n_init)
    for size in larger:
        sample = points[np.sort(order[:size])] if size < len(points) else points
        _, centroids = Cloud.of(sample).descend(centroids)
    return centroids


@dataclass(frozen=True)
class Cloud:
    """Points, and what is known of them without centroids."""

    points: NDArray[np.float32]
    """(n, d)"""
    reach: float
    """Largest distance from zero."""
    middle: NDArray[np.float64]
    """(d,) amid them: the mean of the first block."""
    spread: float
    """Sum of the squared distances to it."""

    @classmethod
    def of(cls, points: NDArray[np.float32]) -> Self:
        """Raises ValueError when a point (n, d) is not finite."""
        middle = points[:ROWS].mean(axis=0)

        def look(rows: slice) -> tuple[float, float]:
            reach = farthest(points[rows])
            if np.isinf(reach):
                return reach, np.inf
            apart = points[rows] - middle
            return reach, float(np.einsum("nd,nd->n", apart, apart).sum(dtype=np.float64))

        reaches, spreads = zip(*in_threads(look, blocks(len(points))), strict=True)
        require_finite(points, max(reaches))
        return cls(points, max(reaches), middle.astype(np.float64), sum(spreads))

    def descend(self, centroids: NDArray[np.float32]) -> tuple[float, NDArray[np.float32]]:
        """Inertia and centroids (k, d) reached from some; none is without points while there are k distinct ones."""
        before, iterations = np.inf, 0
        while True:
            inertia, counts, means = self.step(centroids)
            iterations += 1
            seeded = reseed(self.points, centroids, counts) if (counts == 0).any() else None
            if seeded is not None:
                centroids, before = seeded, np.inf
            elif inertia >= (1 - GAIN) * before or iterations > MAX_ITERATIONS:
                return inertia, centroids
            else:
                centroids, before = means, inertia

    def step(self, centroids: NDArray[np.float32]) -> tuple[float, NDArray[np.float64], NDArray[np.float32]]:
        """Inertia and counts (k,) of centroids (k, d), and the means (k, d) of their points; one without points stays."""
        scores = Scores.of(centroids, self.middle)

        def of(rows: slice) -> tuple[float, NDArray[np.float64], NDArray[np.float32]]:
            members, best = scores.members(self.points[rows], self.reach)
            return float(best.sum(dtype=np.float64)), members.sum(axis=1, dtype=np.float64), members @ self.points[rows]

        score, counts, sums = 0.0, np.zeros(len(centroids)), np.zeros(centroids.shape)
        for part in in_threads(of, blocks(len(self.points))):
            score, counts = score + part[0], counts + part[1]
            sums += part[2]
        means = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], centroids)
        return max(self.spread + score, 0.0), counts, means.astype(np.float32)


def reseed(
    points: NDArray[np.float32], centroids: NDArray[np.float32], counts: NDArray[Any]
) -> NDArray[np.float32] | None:
    """Centroids (k, d) of which those without points have moved, one after the other, to the point that was farthest from all.

    None when every point (n, d) is on a centroid, as points with fewer distinct ones than k can be.
    """
    moved = centroids.copy()
    _, distances = nearest(points, centroids[counts > 0])
    # The mean of equal points is beside them by rounding, which would go on for ever.
    if distances.max() <= SAME * farthest(points):
        return None
    for empty in np.flatnonzero(counts == 0):
        moved[empty] = points[distances.argmax()]
        np.minimum(distances, nearest(points, moved[empty, None])[1], out=distances)
    return moved


def _sizes(n: int, k: int) -> list[int]:
    """Sizes of the samples, the last one all n points."""
    size, sizes = max(FIRST_SAMPLE, FIRST_SAMPLE_EACH * k), []
    while size < n:
        sizes.append(size)
        size *= GROWTH
    return [*sizes, n]


def _best_start(points: NDArray[np.float32], k: int, seed: int, count: int) -> NDArray[np.float32]:
    """Centroids (k, d) with the least inertia that some starts of k-means++ (Arthur and Vassilvitskii 2007) lead to."""
    from sklearn.cluster import kmeans_plusplus

    cloud = Cloud.of(points)

    def run(state: int) -> tuple[float, NDArray[np.float32]]:
        return cloud.descend(np.asarray(kmeans_plusplus(points, k, random_state=state)[0], np.float32))

    states = [int(state) for state in np.random.SeedSequence(seed).generate_state(count)]
    return min(in_threads(run, states), key=lambda found: found[0])[1]
