"""Quality of clusters without landmarks: separation of descriptors, poses against yaw."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SEPARATION_SAMPLE = 5000
YAW_RANGES = (-90.0, -54.0, -18.0, 18.0, 54.0, 90.0)
"""Edges in degrees of the ranges that poses are mapped to (paper, Figure 7: five)."""


@dataclass(frozen=True)
class Separation:
    """How well clusters keep apart (paper Table 3). Calinski-Harabasz grows with the number of points."""

    silhouette: float | None  # -1 to 1; None with fewer than two clusters
    calinski_harabasz: float | None
    num_points: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dict(vars(self))


@dataclass(frozen=True)
class PoseAgreement:
    """Poses against ranges of yaw (paper Figure 7): each pose is mapped to the range that most of its images are in."""

    purity: float  # share of images in the range of their pose: the paper's clustering accuracy
    majority: float  # what one single pose would reach
    normalised_mutual_information: float
    adjusted_rand: float
    edges: tuple[float, ...]  # degrees
    accuracy: tuple[float | None, ...]  # per range, share of its images in poses mapped to it; None without images
    num_images: int

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dict(vars(self))


def separation(descriptors: NDArray[np.floating], labels: NDArray[np.integer], seed: int) -> Separation:
    """Silhouette and Calinski-Harabasz of descriptors (n, D) with labels (n,), on at most 5000 drawn with the seed."""
    from sklearn.metrics import calinski_harabasz_score, silhouette_score

    if len(labels) > SEPARATION_SAMPLE:
        rows = np.sort(np.random.default_rng(seed).choice(len(labels), SEPARATION_SAMPLE, replace=False))
        descriptors, labels = descriptors[rows], labels[rows]
    if not 2 <= len(np.unique(labels)) < len(labels):
        return Separation(silhouette=None, calinski_harabasz=None, num_points=len(labels))
    return Separation(
        silhouette=float(silhouette_score(descriptors, labels)),
        calinski_harabasz=float(calinski_harabasz_score(descriptors, labels)),
        num_points=len(labels),
    )


def pose_agreement(
    poses: NDArray[np.integer], yaw: NDArray[np.floating], edges: Sequence[float] = YAW_RANGES
) -> PoseAgreement:
    """Agreement of poses (n,), -1 for none, with yaw (n,) in degrees cut into ranges.

    Yaw beyond the last edges belongs to the outermost range; images without pose or yaw are left out. Raises ValueError when
    none is left.
    """
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    known = (poses >= 0) & np.isfinite(yaw)
    if not known.any():
        raise ValueError(f"none of {len(poses)} images has both a pose and a yaw")
    num_ranges = len(edges) - 1
    ranges = np.clip(np.searchsorted(edges, yaw[known], side="right") - 1, 0, num_ranges - 1)
    _, cluster = np.unique(poses[known], return_inverse=True)
    table = np.zeros((cluster.max() + 1, num_ranges), dtype=np.int64)
    np.add.at(table, (cluster, ranges), 1)
    return PoseAgreement(
        purity=float(table.max(axis=1).sum() / table.sum()),
        majority=float(table.sum(axis=0).max() / table.sum()),
        normalised_mutual_information=float(normalized_mutual_info_score(ranges, cluster)),
        adjusted_rand=float(adjusted_rand_score(ranges, cluster)),
        edges=tuple(edges),
        accuracy=_accuracy_per_range(table),
        num_images=int(table.sum()),
    )


def _accuracy_per_range(table: NDArray[np.int64]) -> tuple[float | None, ...]:
    mapped = table.argmax(axis=1)
    totals = table.sum(axis=0)
    hits = [table[mapped == column, column].sum() for column in range(table.shape[1])]
    return tuple(float(hit / total) if total else None for hit, total in zip(hits, totals, strict=True))
