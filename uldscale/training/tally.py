"""What there is to say of a round of labels, counted by each rank on its images.

K labels, Q poses.
"""

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from uldscale.labels import Exemplars
from uldscale.runtime.ranks import gather
from uldscale.training.description import Keypoints

_MOVED = 0.05
"""Distance in unit coordinates beyond which a landmark counts as found somewhere else."""


@dataclass(frozen=True)
class Tally:
    """Sums over images."""

    images: NDArray[np.float64]
    """(1,)"""
    keypoints: NDArray[np.float64]
    """(1,)"""
    distance: NDArray[np.float64]
    """(2,) of the labels' descriptors from their centroids, and its square."""
    churn: NDArray[np.float64]
    """(2,) labels of this round or the last that the other lacks or has elsewhere, and all."""
    landmarks: NDArray[np.float64]
    """(K,) images with each label."""
    poses: NDArray[np.float64]
    """(Q,) images in each pose."""

    @classmethod
    def none(cls, labels: int, poses: int) -> Self:
        """Of no image, with K `labels` and Q `poses`."""
        return cls(*(np.zeros(size) for size in (1, 1, 2, 2, labels, poses)))

    @classmethod
    def of(cls, keypoints: Keypoints, found: Exemplars, poses: int) -> Self:
        """Of what one rank has labelled, with Q poses."""
        distances = found.distances[found.found].astype(np.float64)
        return cls(
            np.array([len(found.rows)], float),
            np.array([len(keypoints.row)], float),
            np.array([distances.sum(), np.square(distances).sum()]),
            churn(found.points, keypoints.places),
            found.found.sum(0).astype(float),
            np.bincount(found.poses[found.poses >= 0], minlength=poses).astype(float),
        )

    @classmethod
    def added(cls, parts: list[Self]) -> Self:
        """Of all of them."""
        names = [field.name for field in fields(cls)]
        return cls(*(np.sum([getattr(part, name) for part in parts], axis=0) for name in names))

    def of_all_ranks(self, device: torch.device) -> "Tally":
        """Added over the ranks, all of which call this."""
        names = [field.name for field in fields(self)]
        sums = (gather(torch.from_numpy(getattr(self, name))[None].to(device)).sum(0).cpu().numpy() for name in names)
        return Tally(*sums)

    def figures(self, *, follows: bool) -> dict[str, Any]:
        """For the log; `follows` another round."""
        images, count = self.images[0], max(1.0, self.landmarks.sum())
        figures = {
            "keypoints_per_image": round(self.keypoints[0] / images, 3),
            "labels_per_image": round(self.landmarks.sum() / images, 3),
            "distance": round(self.distance[0] / count, 5),
            "inertia": round(self.distance[1] / count, 5),
        }
        return figures | ({"churn": round(self.churn[0] / max(1.0, self.churn[1]), 5)} if follows else {})


def churn(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> NDArray[np.float64]:
    """(2,): of the labels of either round, points (N', K, 2), NaN where missing, how many the other lacks or has elsewhere (more
    than 0.05 away), and how many there are. Their K may differ.
    """
    shared = min(ours.shape[1], theirs.shape[1])
    stayed = np.linalg.norm(ours[:, :shared] - theirs[:, :shared], axis=-1) <= _MOVED
    had, has = np.isfinite(theirs[..., 0]), np.isfinite(ours[..., 0])
    either = had.sum() + has.sum() - (had[:, :shared] & has[:, :shared]).sum()
    return np.array([either - stayed.sum(), either], float)
