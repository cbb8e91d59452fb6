"""Two-stage clustering (paper 3.3.2): images into Q poses, then in each pose descriptors into K landmarks.

The paper leaves open what makes landmark k of one pose the landmark k of another. Here all K-means of a round start
from global centroids and those from the last round's, and are then matched; poses are cut once (`curve`) and go on. So
k and q mean the same in every pose and from round to round. A pose that has too little to say about a landmark uses the
global centroid.

The paper clusters pose codes. Here the poses of training images come from where their landmarks are, too (`poses`); codes learn them
(Eq. 3), and tell the pose of a new image before its landmarks are known.

Legend: n keypoints, N images, K landmarks, Q poses, D size of a descriptor, Z size of a pose code.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from uldscale.clustering import kmeans
from uldscale.clustering.matching import align
from uldscale.config import Settings

MIN_KEYPOINTS_PER_LANDMARK = 10  # a pose with fewer on average would trade the global centroids for noise


class Clustering(StrEnum):
    """What a round of labels clusters."""

    SINGLE_STAGE = "single_stage"
    """Descriptors into K landmarks (paper 3.2)."""
    TWO_STAGE = "two_stage"
    """Images into Q poses, in each of them descriptors into K landmarks (paper 3.3.2)."""
    OVER_SEGMENTED = "over_segmented"
    """Descriptors into K landmarks, their exemplars once more into M labels (Mallis et al., paper reference 32)."""


class ClusterConfig(Settings):
    """How keypoints become landmarks."""

    landmarks: int = Field(default=10, ge=2)
    """K, landmarks to discover."""
    candidates: float = Field(default=2.5, ge=1)
    """The first K-means makes so many times K clusters, of which K are chosen; 1: K clusters, as in the paper."""
    spacing: float = Field(default=1 / 16, ge=0)
    """Least distance of the mean places of two landmarks that are chosen, as a share of the crop, if possible."""
    poses: int = Field(default=10, ge=1)
    """Q, pose clusters of the two-stage clustering."""
    segments: int = Field(default=100, ge=2)
    """M, labels of the over-segmented clustering."""
    gate: bool = False
    """Exemplars farther than mean + one standard deviation of their cluster are dropped, too."""
    sample: int = Field(default=1_000_000, ge=1000)
    """At most this many descriptors, all of some images drawn with the seed, are clustered; all others are assigned."""
    align: bool = True
    """Landmarks and poses keep their meaning over poses and rounds; false, as in the paper: fresh K-means each time, of pose codes."""


@dataclass(frozen=True)
class Clusters:
    """Centroids of one round."""

    centroids: NDArray[np.float32]  # (Q, K, D); Q = 1 when there is one stage
    global_centroids: NDArray[np.float32]  # (K, D), of all poses together
    pose_centroids: NDArray[np.float32] | None = None  # (Q, Z); None when there is one stage

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """The centroids by name, for keeping; `from_arrays` is the way back."""
        named = {"centroids": self.centroids, "global_centroids": self.global_centroids}
        return named if self.pose_centroids is None else {**named, "pose_centroids": self.pose_centroids}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[np.float32]]) -> "Clusters":
        """Clusters from what `arrays` gave."""
        return cls(**arrays)


def single_stage(
    descriptors: NDArray[np.float32], config: ClusterConfig, seed: int, previous: Clusters | None = None
) -> Clusters:
    """K landmarks from descriptors (n, D) of all images (paper 3.2), in the order of the last round's when given."""
    landmarks = _landmarks(descriptors, config, seed, previous)
    return Clusters(centroids=landmarks[None], global_centroids=landmarks)


def two_stage(
    descriptors: NDArray[np.float32],
    images: NDArray[np.integer],
    codes: NDArray[np.float32],
    poses: NDArray[np.integer],
    config: ClusterConfig,
    seed: int,
    previous: Clusters | None = None,
) -> Clusters:
    """K landmarks in each of Q poses from descriptors (n, D).

    `images` (n,) holds the row in `codes` (N, Z) and `poses` (N,) of each keypoint's image.
    """
    landmarks = _landmarks(descriptors, config, seed, previous)
    pose_of_keypoint = poses[images]
    centroids = [
        _landmarks_in_pose(descriptors[pose_of_keypoint == pose], landmarks, config, seed + 1 + pose)
        for pose in range(config.poses)
    ]
    old = None if previous is None else previous.pose_centroids
    return Clusters(np.stack(centroids), landmarks, _means(codes, poses, config.poses, old))


def assign_poses(codes: NDArray[np.float32], clusters: Clusters) -> NDArray[np.int32]:
    """Pose (N,) of each code (N, Z); all 0 when the clusters have one stage."""
    if clusters.pose_centroids is None:
        return np.zeros(len(codes), dtype=np.int32)
    return kmeans.assign(codes, clusters.pose_centroids)[0]


def label(
    descriptors: NDArray[np.float32], poses: NDArray[np.integer], clusters: Clusters
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Landmark k (n,) of each descriptor (n, D) among the centroids of its own pose (n,), and its distance (n,)."""
    labels = np.empty(len(descriptors), dtype=np.int32)
    distances = np.empty(len(descriptors), dtype=np.float32)
    for pose in np.unique(poses):
        members = poses == pose
        labels[members], distances[members] = kmeans.assign(descriptors[members], clusters.centroids[pose])
    return labels, distances


def _landmarks(
    descriptors: NDArray[np.float32], config: ClusterConfig, seed: int, previous: Clusters | None
) -> NDArray[np.float32]:
    start = previous.global_centroids if previous is not None and config.align else None
    landmarks = kmeans.fit(descriptors, config.landmarks, seed=seed, init=start)
    return landmarks if start is None else landmarks[align(landmarks, start)]


def _means(
    codes: NDArray[np.float32], poses: NDArray[np.integer], count: int, old: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """Mean code of each pose; one that has lost all its images stays where it was."""
    otherwise = np.tile(codes.mean(axis=0), (count, 1)) if old is None else old
    members = [codes[poses == pose] for pose in range(count)]
    return np.stack([part.mean(axis=0) if len(part) else otherwise[pose] for pose, part in enumerate(members)])


def _landmarks_in_pose(
    descriptors: NDArray[np.float32], landmarks: NDArray[np.float32], config: ClusterConfig, seed: int
) -> NDArray[np.float32]:
    if len(descriptors) < MIN_KEYPOINTS_PER_LANDMARK * config.landmarks:
        return landmarks
    if not config.align:
        return kmeans.fit(descriptors, config.landmarks, seed=seed)
    # Only landmarks that are seen in this pose: K-means would send the others to the farthest outliers.
    seen = np.unique(kmeans.assign(descriptors, landmarks)[0])
    fitted = kmeans.fit(descriptors, len(seen), seed=seed, init=landmarks[seen])
    moved = landmarks.copy()
    moved[seen] = fitted[align(fitted, landmarks[seen])]
    crossed = kmeans.assign(moved, landmarks)[0] != np.arange(len(landmarks))
    moved[crossed] = landmarks[crossed]
    return moved
