"""Poses are parts of the curve on which shapes or pose codes lie, found by spectral clustering (normalised cuts, Shi and Malik 2000)
and kept from round to round by the votes of neighbours.

An object that turns moves its landmarks with the sine of the angle: codes follow a bent curve, and are dense at its ends. K-means cuts
space, so it makes the end clusters too wide and mixes what is off the curve; neighbours of neighbours follow the curve. Purity by yaw on
generated faces to 90 degrees: 0.59 to 0.72 by K-means, 0.79 where a code belongs to the nearest mean of a part, 0.82 in its own part; after
five rounds of Eq. 3 0.77 where poses are taken on by K-means or the nearest mean, 0.81 by neighbours (benchmarks/results/open_points.md).

Legend: N codes (pose codes or shapes), Z their size, k parts.
"""

import warnings
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from uldscale.clustering import kmeans

NEIGHBOURS = 40
"""Links of a code, and most neighbours that vote; 30 to 60 are equal within 0.01 of purity, 10 were once 0.13 worse."""
SAMPLE = 4000
"""Most codes that are linked, in 1 s, and most that vote."""


def cut(codes: NDArray[np.float32], k: int, *, seed: int) -> NDArray[np.int32]:
    """Part (N,), 0 to k - 1, of each of N >= k codes (N, Z). Codes too few to tell a curve are left to K-means."""
    drawn = kmeans.draw(np.arange(len(codes)), SAMPLE, seed)
    cuttable = k > 1 and len(drawn) >= k * NEIGHBOURS
    parts = _parts(codes[drawn], k, seed) if cuttable else np.zeros(len(drawn), np.int32)
    if len(np.unique(parts)) < k:  # Collapsed codes, too, have fewer parts than k.
        return kmeans.assign(codes, kmeans.fit(codes, k, seed=seed))[0]
    known = np.full(len(codes), -1, np.int32)
    known[drawn] = parts
    return np.where(known < 0, Votes.drawn(codes, known, seed=seed).of(codes), known)


@dataclass(frozen=True)
class Votes:
    """Codes whose poses are known, and tell those of others."""

    codes: NDArray[np.float32]
    """(S, Z)"""
    poses: NDArray[np.int32]
    """(S,)"""

    @classmethod
    def drawn(cls, codes: NDArray[np.float32], poses: NDArray[np.integer], *, seed: int) -> Self:
        """At most SAMPLE of some codes (N, Z) with poses (N,), -1 for none."""
        voters = kmeans.draw(np.flatnonzero(poses >= 0), SAMPLE, seed)
        return cls(codes[voters], poses[voters].astype(np.int32))

    def of(self, codes: NDArray[np.float32]) -> NDArray[np.int32]:
        """Pose (N,) that most neighbours of a code (N, Z) have; one that votes is among its own neighbours."""
        from sklearn.neighbors import KNeighborsClassifier

        # Of few codes, more would be outvoted everywhere.
        half_a_pose = len(self.poses) // (2 * len(np.unique(self.poses)))
        model = KNeighborsClassifier(max(1, min(NEIGHBOURS, half_a_pose)), algorithm="brute")
        with threadpool_limits(limits=1):
            return np.asarray(model.fit(self.codes, self.poses).predict(codes), np.int32)


def _parts(codes: NDArray[np.float32], k: int, seed: int) -> NDArray[np.int32]:
    from sklearn.cluster import SpectralClustering

    model = SpectralClustering(k, affinity="nearest_neighbors", n_neighbors=NEIGHBOURS, random_state=seed)
    with threadpool_limits(limits=1), warnings.catch_warnings():
        # Codes in clumps that no link joins are no error: each clump is a part, or several.
        warnings.filterwarnings("ignore", message="Graph is not fully connected", category=UserWarning)
        parts: NDArray[np.int32] = model.fit_predict(codes)
    return parts
