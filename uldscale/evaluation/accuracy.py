"""How often raw landmarks, without any regressor, lie on annotated points (paper Figure 4).

Legend: n images, K landmarks, P annotated points; pixels of the crop, NaN = missing.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from uldscale.evaluation.protocols import Normaliser, normalisers

CHUNK = 2048  # images at a time: the distances of all of LS3D would take 0.7 GB
NEVER_TOGETHER = 1e6  # cost, in normalisers, of a landmark and a point that no training image shows together


@dataclass(frozen=True)
class HungarianAccuracy:
    """Share of the test images in which a point has its landmark within the threshold; a missing landmark is a miss."""

    mean: float | None  # over the annotated points that were matched one to one
    mean_all: float | None  # over all annotated points
    per_point: tuple[float | None, ...]  # (P,); None for a point that is never annotated
    landmark: tuple[int, ...]  # (P,) the landmark that stands for the point
    matched: tuple[bool, ...]  # (P,) one to one by the Hungarian algorithm; the others have their nearest landmark
    normaliser: str
    threshold: float  # in normalisers

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dict(vars(self))


def hungarian_accuracy(
    predicted_train: NDArray[np.floating],
    truth_train: NDArray[np.floating],
    predicted_test: NDArray[np.floating],
    truth_test: NDArray[np.floating],
    normaliser: Normaliser,
    threshold: float = 0.2,
) -> HungarianAccuracy:
    """Accuracy of landmarks (n, K, 2) at annotated points (n, P, 2) within `threshold` normalisers of the image.

    Landmarks are matched to points by mean normalised distance on training images and frozen, so that test images have
    no say. With fewer landmarks than points the left-over points take their nearest landmark and are marked.
    """
    cost = _mean_cost(predicted_train, truth_train, normaliser)
    landmark = cost.argmin(axis=0)
    matched = np.zeros(cost.shape[1], dtype=bool)
    rows, columns = linear_sum_assignment(cost)
    landmark[columns], matched[columns] = rows, True
    hits = _hit_rates(predicted_test, truth_test, landmark, normaliser, threshold)
    return HungarianAccuracy(
        mean=_mean(hits[matched]),
        mean_all=_mean(hits),
        per_point=tuple(float(hit) if np.isfinite(hit) else None for hit in hits),
        landmark=tuple(landmark.tolist()),
        matched=tuple(matched.tolist()),
        normaliser=normaliser,
        threshold=threshold,
    )


def _distances(
    predicted: NDArray[np.floating], truth: NDArray[np.floating], normaliser: Normaliser
) -> NDArray[np.float64]:
    """(n, K, P) in normalisers; NaN where landmark, point or normaliser is missing."""
    lengths = normalisers(truth, normaliser)
    lengths = np.where(lengths > 0, lengths, np.nan)
    gaps = np.linalg.norm(np.asarray(predicted, dtype=np.float64)[:, :, None] - np.asarray(truth)[:, None], axis=-1)
    return np.asarray(gaps / lengths[:, None, None])


def _mean_cost(
    predicted: NDArray[np.floating], truth: NDArray[np.floating], normaliser: Normaliser
) -> NDArray[np.float64]:
    """(K, P)"""
    total = count = np.zeros((predicted.shape[1], truth.shape[1]))
    for start in range(0, len(truth), CHUNK):
        some = slice(start, start + CHUNK)
        distances = _distances(predicted[some], truth[some], normaliser)
        known = np.isfinite(distances)
        total, count = total + np.where(known, distances, 0).sum(axis=0), count + known.sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), NEVER_TOGETHER)


def _hit_rates(
    predicted: NDArray[np.floating],
    truth: NDArray[np.floating],
    landmark: NDArray[np.int64],
    normaliser: Normaliser,
    threshold: float,
) -> NDArray[np.float64]:
    lengths = normalisers(truth, normaliser)
    gaps = np.linalg.norm(np.asarray(predicted, dtype=np.float64)[:, landmark] - truth, axis=-1)
    annotated = np.isfinite(truth).all(axis=-1) & (lengths > 0)[:, None]
    hits = (gaps <= threshold * lengths[:, None]) & annotated
    counts = annotated.sum(axis=0)
    return np.where(counts > 0, hits.sum(axis=0) / np.maximum(counts, 1), np.nan)


def _mean(hits: NDArray[np.float64]) -> float | None:
    known = hits[np.isfinite(hits)]
    return float(known.mean()) if len(known) else None
