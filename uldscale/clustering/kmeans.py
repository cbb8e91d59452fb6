"""K-means on one machine: scikit-learn on a CPU, cuML where it is installed and a CUDA device is visible.

Laws: equal points and seed give equal centroids, whatever the number of threads; no centroid is left without points
while there are k distinct points. The price of the first on a CPU is one thread: scikit-learn adds partial sums in the
order in which its threads end, which moves the last digits from run to run. cuML repeats itself up to rounding.

Both libraries, here and in `curve`, are imported where they iterate: they take seconds, and most processes only assign.

Legend: n points, d their size, k centroids.
"""

import importlib.util
import warnings
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

_Number = TypeVar("_Number", bound=np.generic)

MAX_ITERATIONS = 100
TOLERANCE = 1e-4
MAX_RESEEDS = 10
CHUNK_ROWS = 65_536  # float64 distances of a chunk to 100 centroids take 52 MB


def backend() -> Literal["cuml", "sklearn"]:
    """The library that iterates here: `cuml` when it is installed and a CUDA device is visible, else `sklearn`."""
    if importlib.util.find_spec("cuml") is None:
        return "sklearn"
    import cupy

    try:
        return "cuml" if cupy.cuda.runtime.getDeviceCount() > 0 else "sklearn"
    except cupy.cuda.runtime.CUDARuntimeError:
        return "sklearn"


def fit(
    points: NDArray[np.float32],
    k: int,
    *,
    seed: int,
    init: NDArray[np.float32] | None = None,
    n_init: int = 4,
    sample: int = 1_000_000,
) -> NDArray[np.float32]:
    """Centroids (k, d) of points (n, d): the best of `n_init` k-means++ starts, or one run from `init` (k, d).

    When there are more than `sample` points, that many are drawn with the seed. Raises ValueError when there are fewer
    points than k, when a point is not finite, or when `init` has another shape.
    """
    points = np.ascontiguousarray(points, dtype=np.float32)
    _check(points, k, init)
    points = draw(points, sample, seed)
    with threadpool_limits(limits=1):
        starts = _starts(points, k, seed, n_init) if init is None else [np.array(init, dtype=np.float32)]
        return min((_run(points, start) for start in starts), key=lambda run: run[0])[1]


def assign(
    points: NDArray[np.float32], centroids: NDArray[np.float32]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Nearest centroid of each point and the Euclidean distance to it: labels (n,), distances (n,).

    Ties go to the lower label. Raises ValueError when a point is not finite.
    """
    labels = np.empty(len(points), dtype=np.int32)
    distances = np.empty(len(points), dtype=np.float32)
    for start in range(0, len(points), CHUNK_ROWS):
        rows = slice(start, start + CHUNK_ROWS)
        labels[rows], distances[rows] = _nearest(points[rows].astype(np.float64), centroids.astype(np.float64))
    return labels, distances


def _nearest(
    points: NDArray[np.float64], centroids: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    if not np.isfinite(points).all():
        raise ValueError(f"{(~np.isfinite(points)).any(axis=1).sum()} points hold NaN or infinity; leave them out")
    labels = np.argmin((centroids**2).sum(axis=1) - 2 * points @ centroids.T, axis=1)
    return labels, np.linalg.norm(points - centroids[labels], axis=1)


def _check(points: NDArray[np.float32], k: int, init: NDArray[np.float32] | None) -> None:
    if points.ndim != 2 or len(points) < k:
        raise ValueError(f"k-means wants points of shape (n, d) with n >= k = {k}, got {points.shape}")
    if not np.isfinite(points).all():
        bad = int((~np.isfinite(points)).any(axis=1).sum())
        raise ValueError(f"{bad} of {len(points)} points hold NaN or infinity; leave them out")
    if init is not None and init.shape != (k, points.shape[1]):
        raise ValueError(f"init has shape {init.shape}, wanted {(k, points.shape[1])}")


def draw(points: NDArray[_Number], sample: int, seed: int) -> NDArray[_Number]:
    """`sample` of the points (n, …), in their order; all when there are no more."""
    if len(points) <= sample:
        return points
    return points[np.sort(np.random.default_rng(seed).choice(len(points), sample, replace=False))]


def _starts(points: NDArray[np.float32], k: int, seed: int, count: int) -> list[NDArray[np.float32]]:
    from sklearn.cluster import kmeans_plusplus

    seeds = np.random.SeedSequence(seed).generate_state(count)
    return [kmeans_plusplus(points, k, random_state=int(each))[0] for each in seeds]


def _iterate(points: NDArray[np.float32], start: NDArray[np.float32]) -> NDArray[np.float32]:
    return _iterate_cuml(points, start) if backend() == "cuml" else _iterate_sklearn(points, start)


def _iterate_sklearn(points: NDArray[np.float32], start: NDArray[np.float32]) -> NDArray[np.float32]:
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    model = KMeans(
        len(start), init=start, n_init=1, max_iter=MAX_ITERATIONS, tol=TOLERANCE, algorithm="lloyd", random_state=0
    )
    with warnings.catch_warnings():
        # Fewer distinct points than clusters (a collapsed pose code, say) is a result here: some centroids coincide.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(points)
    return np.array(model.cluster_centers_, dtype=np.float32)


def _iterate_cuml(points: NDArray[np.float32], start: NDArray[np.float32]) -> NDArray[np.float32]:
    from cuml.cluster import KMeans as CumlKMeans

    model = CumlKMeans(
        n_clusters=len(start),
        init=start,
        n_init=1,
        max_iter=MAX_ITERATIONS,
        tol=TOLERANCE,
        random_state=0,
        output_type="numpy",
    )
    return np.array(model.fit(points).cluster_centers_, dtype=np.float32)


def _run(
    points: NDArray[np.float32], start: NDArray[np.float32], reseeds: int = MAX_RESEEDS
) -> tuple[float, NDArray[np.float32]]:
    """Inertia and centroids reached from one start; empty clusters are sent to the farthest points and iterate on."""
    centroids = _iterate(points, start)
    labels, distances = assign(points, centroids)
    empty = np.setdiff1d(np.arange(len(centroids)), labels)
    if len(empty) == 0 or reseeds == 0:
        return float((distances.astype(np.float64) ** 2).sum()), centroids
    farthest = np.argsort(-distances, kind="stable")[: len(empty)]
    centroids[empty] = points[farthest]
    return _run(points, centroids, reseeds - 1)
