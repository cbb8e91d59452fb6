"""The nearest of some centroids: quick in float32, exact where that cannot tell.

|p - c|² and -2 p·(c - m) + |c - m|² + 2 m·(c - m) differ, for any m, by what all centroids share. The second is one product of
matrices; m amid the points keeps its terms small. Of unit-norm descriptors float32 leaves two in ten thousand to float64; of points
whose spread is small beside their distance from zero it leaves many, which takes longer.

Legend: n points p, d their size, k centroids c.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from uldscale.clustering.blocks import blocks, in_threads


@dataclass(frozen=True)
class Scores:
    """What ranks centroids for a point."""

    centroids: NDArray[np.float64]
    """(k, d)"""
    weights: NDArray[np.float32]
    """(d, k)"""
    bias: NDArray[np.float32]
    """(k, 1)"""

    @classmethod
    def of(cls, centroids: NDArray[np.floating], middle: NDArray[np.float64]) -> Self:
        """For centroids (k, d); `middle` (d,) is any place amid the points."""
        exact = centroids.astype(np.float64)
        apart = exact - middle
        bias = (apart**2).sum(axis=1) + 2 * apart @ middle
        return cls(exact, (-2 * apart.T).astype(np.float32), bias[:, None].astype(np.float32))

    def __call__(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores (k, n) of points (n, d), least for the nearest; plus |p - middle|² the squared distances."""
        scores: NDArray[np.float32] = np.add((points @ self.weights).T, self.bias, order="C")
        return scores

    def members(self, points: NDArray[np.float32], reach: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """For points (n, d) that lie no farther than `reach` from zero 1 at their nearest centroid and 0 elsewhere (k, n), ties at
        the first one, and their scores (n,) there.
        """
        ranks = self(points)
        best = ranks.min(axis=0)
        members = (ranks <= best + self._rounding(reach)).astype(np.float32)
        if np.count_nonzero(members) > len(points):
            unsure = np.flatnonzero(members.sum(axis=0) > 1)
            members[:, unsure] = np.arange(len(members))[:, None] == self._exact(points[unsure].astype(np.float64))
        return members, best

    def _rounding(self, reach: float) -> np.float32:
        """Most by which rounding moves the difference of two scores (Higham 2002, section 3.1)."""
        terms = reach * np.linalg.norm(self.weights, axis=0).max() + np.abs(self.bias).max()
        return np.float32((len(self.weights) + 6) * np.finfo(np.float32).eps * terms)

    def _exact(self, points: NDArray[np.float64]) -> NDArray[np.int64]:
        squares = np.stack([np.square(points - each).sum(axis=1) for each in self.centroids])
        nearest: NDArray[np.int64] = squares.argmin(axis=0)
        return nearest


def nearest(
    points: NDArray[np.float32], centroids: NDArray[np.float32]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Label (n,) and Euclidean distance (n,) of the nearest centroid (k, d) of each point (n, d); ties go to the lower label.

    What is said of a point does not depend on the others. Raises ValueError when a point is not finite.
    """
    labels = np.empty(len(points), dtype=np.int32)
    distances = np.empty(len(points), dtype=np.float32)
    scores = Scores.of(centroids, centroids.mean(axis=0, dtype=np.float64))
    numbers = np.arange(len(centroids), dtype=np.float32)

    def fill(rows: slice) -> float:
        some = points[rows]
        reach = farthest(some)
        if np.isfinite(reach):
            labels[rows] = numbers @ scores.members(some, reach)[0]
            apart = some - centroids[labels[rows]]
            distances[rows] = np.sqrt(np.einsum("nd,nd->n", apart, apart))
        return reach

    require_finite(points, max(in_threads(fill, blocks(len(points))), default=0.0))
    return labels, distances


def farthest(points: NDArray[np.float32]) -> float:
    """Largest distance of some points (n, d) from zero; infinite where one is not finite."""
    squares = np.einsum("nd,nd->n", points, points)
    return float(np.sqrt(squares.max())) if np.isfinite(squares).all() else np.inf


def require_finite(points: NDArray[np.float32], reach: float) -> None:
    """Raises ValueError, with the number of points (n, d) that are not finite, when their `reach` is not."""
    if np.isfinite(reach):
        return
    squares = (np.einsum("nd,nd->n", points[rows], points[rows]) for rows in blocks(len(points)))
    bad = sum(int(np.count_nonzero(~np.isfinite(each))) for each in squares)
    raise ValueError(
        f"{bad} of {len(points)} points hold NaN, infinity or numbers whose squares are too large; leave them out"
    )
