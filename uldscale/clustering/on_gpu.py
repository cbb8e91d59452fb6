"""K-means on a GPU: cuML's, from scalable k-means++ (Bahmani et al. 2012) to the last assignment, all points on the device.

cuML repeats itself up to rounding, and leaves a centroid that loses its points where it is.

Legend: n points, d their size, k centroids.
"""

import importlib.util
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uldscale.clustering.lloyd import GAIN, MAX_ITERATIONS, reseed
from uldscale.clustering.nearest import farthest, require_finite


def available() -> bool:
    """Whether cuML is installed and a CUDA device is visible."""
    if importlib.util.find_spec("cuml") is None:
        return False
    import cupy

    try:
        return bool(cupy.cuda.runtime.getDeviceCount() > 0)
    except cupy.cuda.runtime.CUDARuntimeError:
        return False


def fit(
    points: NDArray[np.float32], k: int, *, seed: int, init: NDArray[np.float32] | None, n_init: int
) -> NDArray[np.float32]:
    """Centroids (k, d) of points (n, d), as `kmeans.fit` has it. Raises ValueError when a point is not finite."""
    import cupy

    require_finite(points, farthest(points))
    on_device = cupy.asarray(points)
    state = int(np.random.SeedSequence(seed).generate_state(1)[0])
    model = {"n_clusters": k, "max_iter": MAX_ITERATIONS, "tol": GAIN, "random_state": state, "output_type": "cupy"}
    start = {"init": "scalable-k-means++", "n_init": n_init} if init is None else _from(init)
    centroids, counts = _run(on_device, **model, **start)
    for _ in range(k):
        seeded = reseed(points, centroids, counts) if (counts == 0).any() else None
        if seeded is None:
            break
        centroids, counts = _run(on_device, **model, **_from(seeded))
    return centroids


def _from(centroids: NDArray[np.floating]) -> dict[str, Any]:
    return {"init": centroids.astype(np.float32), "n_init": 1}


def _run(on_device: Any, **options: Any) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Centroids (k, d) and how many points each has (k,)."""
    import cupy
    from cuml.cluster import KMeans

    model = KMeans(**options).fit(on_device)
    counts = cupy.bincount(model.labels_, minlength=options["n_clusters"])
    return cupy.asnumpy(model.cluster_centers_), cupy.asnumpy(counts)
