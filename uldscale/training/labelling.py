"""The labels of images: what is left to do when a round is fitted, and needs nothing but what is on the image itself.

n keypoints of N' images, K landmarks, Q poses, M candidates or segments, D descriptor size, Z latent.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from uldscale.clustering import kmeans
from uldscale.clustering.exemplars import keep
from uldscale.clustering.poses import Poses
from uldscale.clustering.two_stage import Clusters, assign_poses, label
from uldscale.labels import Exemplars
from uldscale.training.description import Keypoints

_OPTIONAL = ("gate", "candidates", "numbers", "segments")


@dataclass(frozen=True, eq=False)
class Labelling:
    """A fitted round."""

    clusters: Clusters
    poses: Poses | None = None
    """What tells the pose of an image; None: its code alone does."""
    gate: NDArray[np.float64] | None = None
    """(K,) distance from the centroid beyond which no keypoint is an exemplar."""
    candidates: NDArray[np.float32] | None = None
    """(M, D) centroids of the clusters of which the landmarks were chosen; keypoints are theirs first."""
    numbers: NDArray[np.int64] | None = None
    """(K,) candidates that were chosen."""
    segments: NDArray[np.float32] | None = None
    """(M, D) clusters of the exemplars, which are the labels then."""

    @property
    def count(self) -> int:
        """Number of different labels."""
        return len(self.clusters.global_centroids if self.segments is None else self.segments)

    def __call__(self, keypoints: Keypoints) -> Exemplars:
        """Labels of all images of some keypoints."""
        image = np.searchsorted(keypoints.rows, keypoints.row)
        pose = self._poses(keypoints)
        labels, distances, kept = self._exemplars(keypoints.descriptors, image, pose[image])
        found = Exemplars.none(keypoints.rows, self.count, keypoints.codes.shape[1])
        place = image[kept], labels[kept]
        found.points[place], found.scores[place] = keypoints.points[kept], keypoints.scores[kept]
        found.distances[place] = distances[kept]
        labelled = found.found.any(axis=1)
        found.poses[labelled], found.codes[:] = pose[labelled], keypoints.codes
        return found

    def _poses(self, keypoints: Keypoints) -> NDArray[np.int32]:
        if self.poses is None:
            return assign_poses(keypoints.codes, self.clusters)
        return self.poses.of(keypoints.codes, keypoints.places)

    def _exemplars(
        self, descriptors: NDArray[np.float32], image: NDArray[np.int64], pose: NDArray[np.int32]
    ) -> tuple[NDArray[np.integer], NDArray[np.float32], NDArray[np.bool_]]:
        """Label, distance to its centroid, and whether it is an exemplar, of each keypoint (n,)."""
        if self.candidates is not None and self.numbers is not None:
            return _chosen(descriptors, image, self.candidates, self.numbers, self.gate)
        labels, distances = label(descriptors, pose, self.clusters)
        kept = keep(image, labels, distances, self.gate)
        if self.segments is not None:
            labels, distances = kmeans.assign(descriptors, self.segments)
            kept[kept] = keep(image[kept], labels[kept], distances[kept])
        return labels, distances, kept

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of it by name, for keeping; `from_arrays` is the way back."""
        optional = {name: getattr(self, name) for name in _OPTIONAL}
        return {
            **{f"clusters/{name}": array for name, array in self.clusters.arrays().items()},
            **({f"poses/{name}": array for name, array in self.poses.arrays().items()} if self.poses else {}),
            **{name: array for name, array in optional.items() if array is not None},
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> Self:
        """A labelling from what `arrays` gave."""
        poses = _below("poses/", arrays)
        return cls(
            Clusters.from_arrays(_below("clusters/", arrays)),
            Poses.from_arrays(poses) if poses else None,
            **{name: arrays[name] for name in _OPTIONAL if name in arrays},
        )


def _chosen(
    descriptors: NDArray[np.float32],
    image: NDArray[np.int64],
    candidates: NDArray[np.float32],
    numbers: NDArray[np.int64],
    gate: NDArray[np.float64] | None,
) -> tuple[NDArray[np.integer], NDArray[np.float32], NDArray[np.bool_]]:
    labels, distances = kmeans.assign(descriptors, candidates)
    landmark, reach = np.full(len(candidates), -1, np.int32), np.full(len(candidates), -np.inf)
    landmark[numbers] = np.arange(len(numbers))
    reach[numbers] = np.inf if gate is None else gate
    return landmark[labels], distances, keep(image, labels, distances, reach)


def _below(folder: str, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(folder): array for name, array in arrays.items() if name.startswith(folder)}
