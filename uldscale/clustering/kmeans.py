"""K-means on one machine: our own on a CPU (`lloyd`), cuML's where it is installed and a CUDA device is visible (`on_gpu`).

Laws: equal points and seed give equal centroids, on a CPU bit for bit and whatever the number of threads, on a GPU up to rounding; no
centroid is left without points while there are k distinct points; a point has the same label wherever it is asked for.

cuML, and scikit-learn for k-means++, are imported where they start: they take seconds, and most processes only assign.

Legend: n points, d their size, k centroids.
"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from uldscale.clustering import lloyd, on_gpu
from uldscale.clustering.nearest import nearest

_Number = TypeVar("_Number", bound=np.generic)


def fit(
    points: NDArray[np.float32],
    k: int,
    *,
    seed: int,
    init: NDArray[np.float32] | None = None,
    n_init: int = 4,
) -> NDArray[np.float32]:
    """Centroids (k, d) of points (n, d): the best of `n_init` k-means++ starts, or one run from `init` (k, d).

    All points count. Raises ValueError when there are fewer points than k, when a point is not finite, or when `init` has
    another shape.
    """
    if points.ndim != 2 or len(points) < k:
        raise ValueError(f"k-means wants points of shape (n, d) with n >= k = {k}, got {points.shape}")
    if init is not None and init.shape != (k, points.shape[1]):
        raise ValueError(f"init has shape {init.shape}, wanted {(k, points.shape[1])}")
    library = on_gpu.fit if on_gpu.available() else lloyd.fit
    return library(np.ascontiguousarray(points, np.float32), k, seed=seed, init=init, n_init=n_init)


def assign(
    points: NDArray[np.float32], centroids: NDArray[np.float32]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Nearest centroid of each point and the Euclidean distance to it: labels (n,), distances (n,).

    Ties go to the lower label. What is said of a point does not depend on the others. Raises ValueError when a point is not
    finite.
    """
    return nearest(np.ascontiguousarray(points, np.float32), centroids.astype(np.float32, copy=False))


def draw(points: NDArray[_Number], sample: int, seed: int) -> NDArray[_Number]:
    """`sample` of the points (n, …), in their order; all when there are no more."""
    if len(points) <= sample:
        return points
    return points[np.sort(np.random.default_rng(seed).choice(len(points), sample, replace=False))]
