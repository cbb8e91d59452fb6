"""What tells the pose of a training image: its pose code, and its shape, which is where its landmarks are.

A heatmap does not say which landmark is which, and a code knows no more than the heatmap: where several landmarks share the tip of a
nose, their places tell one pose from another. Purity by yaw of parts of the curve (`curve`), mean of six detectors on generated and real
faces: 0.80 of codes, 0.80 of shapes, 0.83 of both (benchmarks/results/open_points.md).

Legend: N images, K landmarks, Z size of a pose code.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from uldscale.clustering import kmeans
from uldscale.clustering.curve import NEIGHBOURS

SHAPE_WEIGHT = 2.0
"""How much wider shapes are spread than codes; 1.5 to 3 are equal within 0.02 of purity, 1 is 0.01 worse."""

KNOWN = 1000
"""Most images that fill in what others lack; with 4,000 an image that lacks most of its landmarks takes 2 ms."""
_TOGETHER = 4096


@dataclass(frozen=True)
class PoseSpace:
    """What makes pose vectors of codes and places, from some images for any others."""

    known: NDArray[np.float32]
    """(S, 2 K) places on some images, NaN where missing."""
    centre: NDArray[np.float32]
    """(Z + 2 K,) mean of codes and shapes."""
    scale: NDArray[np.float32]
    """(Z + 2 K,) what they are multiplied with around it."""

    @classmethod
    def fit(cls, codes: NDArray[np.float32], places: NDArray[np.float32], *, seed: int) -> Self:
        """Of some images' codes (N, Z) and places (N, K, 2), NaN where missing, which are brought to the same spread; K may be 0."""
        flat = places.reshape(len(places), -1)
        known = flat[kmeans.draw(np.arange(len(flat)), KNOWN, seed)]
        parts = [codes, shapes(flat, known)]
        weights = [1.0, SHAPE_WEIGHT]
        scales = [
            np.full(part.shape[1], weight * _scale(part), np.float32)
            for part, weight in zip(parts, weights, strict=True)
        ]
        return cls(known, np.concatenate(parts, axis=1).mean(axis=0), np.concatenate(scales))

    def of(self, codes: NDArray[np.float32], places: NDArray[np.float32]) -> NDArray[np.float32]:
        """Pose vectors (N, Z + 2 K) of codes (N, Z) and places (N, K, 2), NaN where missing."""
        vectors = np.concatenate([codes, shapes(places.reshape(len(places), -1), self.known)], axis=1)
        return (vectors - self.centre) * self.scale


def shapes(places: NDArray[np.float32], known: NDArray[np.float32]) -> NDArray[np.float32]:
    """Shapes (N, 2 K) of places (N, 2 K), NaN where an image lacks a landmark.

    A missing one is where it is on those images of `known` (S, 2 K) whose other landmarks are nearest. Without a fifth of all
    landmarks that leaves shapes a purity of 0.81, and the mean of all images in their place one of 0.75.
    """
    from sklearn.impute import KNNImputer

    if np.isfinite(places).all():
        return places
    imputer = KNNImputer(n_neighbors=NEIGHBOURS, weights="distance", keep_empty_features=True)
    imputer.fit(known)
    with threadpool_limits(limits=1):
        # Distances of all images at once would take gigabytes.
        parts = [imputer.transform(places[start : start + _TOGETHER]) for start in range(0, len(places), _TOGETHER)]
    return np.concatenate(parts, dtype=np.float32)


def _scale(vectors: NDArray[np.float32]) -> float:
    """What takes their mean squared distance from their mean to 1."""
    spread = float(np.sqrt(np.square(vectors - vectors.mean(axis=0)).sum(axis=1).mean()))
    # Vectors that are all the same say nothing, also when what is left of them is rounding.
    return 1 / spread if spread > 1e-6 else 0.0
