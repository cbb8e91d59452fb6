"""The first poses: parts of the curve on which pose codes lie, by spectral clustering (normalised cuts, Shi and Malik 2000).

An object that turns moves its landmarks with the sine of the angle: codes follow a bent curve, and are dense at its ends. K-means cuts
space, so it makes the end clusters too wide and mixes what is off the curve; neighbours of neighbours follow the curve. Purity by yaw of
the first poses, over K-means: 0.70 to 0.76 on generated faces to 90 degrees, 0.79 to 0.83 on real ones (benchmarks/results/open_points.md).

Legend: N codes, Z their size, k parts.
"""

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import SpectralClustering
from threadpoolctl import threadpool_limits

from uldscale.clustering import kmeans

NEIGHBOURS = 20
"""Links of a code; 20 and 40 are equal within 0.03 of purity, 10 were once 0.13 worse."""
SAMPLE = 4000
"""Most codes that are linked, in 1 s; the others belong to the nearest centroid."""


def fit(codes: NDArray[np.float32], k: int, *, seed: int) -> NDArray[np.float32]:
    """Centroids (k, Z) of k connected parts of codes (N, Z), N >= k. Codes too few to tell a curve are left to K-means."""
    drawn = kmeans.draw(codes, SAMPLE, seed)
    if k == 1 or len(drawn) < k * NEIGHBOURS:
        return kmeans.fit(codes, k, seed=seed)
    parts = _parts(drawn, k, seed)
    if len(np.unique(parts)) < k:  # collapsed codes have fewer parts than k
        return kmeans.fit(codes, k, seed=seed)
    return np.stack([drawn[parts == part].mean(axis=0) for part in range(k)])


def _parts(codes: NDArray[np.float32], k: int, seed: int) -> NDArray[np.int32]:
    model = SpectralClustering(k, affinity="nearest_neighbors", n_neighbors=NEIGHBOURS, random_state=seed)
    with threadpool_limits(limits=1), warnings.catch_warnings():
        # Codes in clumps that no link joins are no error: each clump is a part, or several.
        warnings.filterwarnings("ignore", message="Graph is not fully connected", category=UserWarning)
        parts: NDArray[np.int32] = model.fit_predict(codes)
    return parts
