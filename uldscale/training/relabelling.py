"""A round of pseudo-labels (paper, Algorithm 1): what all ranks saw, clustered in one place.

n keypoints of all images, K landmarks, Q poses.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from uldscale.clustering import kmeans
from uldscale.clustering.candidates import discover
from uldscale.clustering.exemplars import keep
from uldscale.clustering.two_stage import (
    ClusterConfig,
    Clustering,
    Clusters,
    assign_poses,
    label,
    single_stage,
    two_stage,
)
from uldscale.errors import DataError
from uldscale.labels import LabelTable
from uldscale.runtime import telemetry
from uldscale.training.batches import DenseLabels
from uldscale.training.description import Keypoints

PART_SECONDS = "uldscale_relabel_part_seconds_total"


def cluster(
    keypoints: Keypoints,
    config: ClusterConfig,
    kind: Clustering,
    *,
    number: int,
    seed: int,
    previous: LabelTable | None,
) -> LabelTable:
    """Round `number` of pseudo-labels.

    Landmarks and poses keep the meaning that they had in the `previous` round; the labels of the over-segmented clustering
    are new in each, as in the code that the paper cites. Raises DataError when there are fewer keypoints than landmarks.
    """
    if len(keypoints.row) < config.landmarks:
        raise DataError(
            f"round {number} found {len(keypoints.row)} keypoints on {len(keypoints.rows)} images, but {config.landmarks} landmarks "
            "are wanted; train longer, add images or lower train.keypoints.visible"
        )
    if kind is Clustering.OVER_SEGMENTED:
        with telemetry.timing(PART_SECONDS, part="fit"):
            return _over_segmented(keypoints, config, number, seed)
    if previous is None and config.candidates > 1:
        with telemetry.timing(PART_SECONDS, part="fit"):
            return _first(keypoints, config, number, seed)
    with telemetry.timing(PART_SECONDS, part="fit"):
        clusters, pose = _clusters(keypoints, config, kind, seed, previous)
    with telemetry.timing(PART_SECONDS, part="assign"):
        return _exemplars(keypoints, clusters, pose, number, config.gate)


def _clusters(
    keypoints: Keypoints, config: ClusterConfig, kind: Clustering, seed: int, previous: LabelTable | None
) -> tuple[Clusters, NDArray[np.int32]]:
    """Clusters that start from the anchors of the last round's landmarks, where there are any, and the pose (N,) of each image."""
    before = None if previous is None else Clusters.from_arrays(previous.clusters)
    if before is not None and keypoints.anchors is not None:
        before = replace(before, global_centroids=keypoints.anchors)
    if kind is Clustering.SINGLE_STAGE:
        clusters = single_stage(keypoints.descriptors, config, seed, before)
        return clusters, assign_poses(keypoints.codes, clusters)
    had_poses = before is not None and before.pose_centroids is not None
    poses = previous.poses[keypoints.rows] if previous is not None and had_poses else None
    places = None if previous is None else DenseLabels.of(previous, len(previous.poses)).points[keypoints.rows]
    image = np.searchsorted(keypoints.rows, keypoints.row)
    return two_stage(keypoints.descriptors, image, keypoints.codes, config, seed, before, poses, places)


def _exemplars(
    keypoints: Keypoints, clusters: Clusters, pose: NDArray[np.int32], number: int, gate: bool
) -> LabelTable:
    """For each image and landmark the nearest keypoint, among the centroids of the image's pose (N,)."""
    image = np.searchsorted(keypoints.rows, keypoints.row)
    landmark, distance = label(keypoints.descriptors, pose[image], clusters)
    kept = keep(keypoints.row, landmark, distance, gate=gate)
    return _table(keypoints, pose, landmark, distance, kept, clusters, number)


def _first(keypoints: Keypoints, config: ClusterConfig, number: int, seed: int) -> LabelTable:
    """Labels of landmarks that were chosen among candidates."""
    centroids, landmark, distance = discover(
        keypoints.descriptors,
        keypoints.row,
        keypoints.points,
        config.landmarks,
        candidates=round(config.candidates * config.landmarks),
        min_distance=config.spacing,
        seed=seed,
        sample=config.sample,
    )
    clusters = Clusters(centroids=centroids[None], global_centroids=centroids)
    return _table(
        keypoints, assign_poses(keypoints.codes, clusters), landmark, distance, landmark >= 0, clusters, number
    )


def _over_segmented(keypoints: Keypoints, config: ClusterConfig, number: int, seed: int) -> LabelTable:
    """K landmarks; then their exemplars' M clusters, whose exemplars are the labels."""
    clusters = single_stage(keypoints.descriptors, config, seed)
    landmark, distance = kmeans.assign(keypoints.descriptors, clusters.global_centroids)
    kept = keep(keypoints.row, landmark, distance, gate=config.gate)
    exemplars = keypoints.descriptors[kept]
    centroids = kmeans.fit(exemplars, min(config.segments, len(exemplars)), seed=seed, sample=config.sample)
    segment, distance = kmeans.assign(keypoints.descriptors, centroids)
    kept[kept] = keep(keypoints.row[kept], segment[kept], distance[kept])
    return _table(keypoints, assign_poses(keypoints.codes, clusters), segment, distance, kept, clusters, number)


def _table(
    keypoints: Keypoints,
    pose: NDArray[np.int32],
    landmark: NDArray[np.int32],
    distance: NDArray[np.float32],
    kept: NDArray[np.bool_],
    clusters: Clusters,
    number: int,
) -> LabelTable:
    image = np.searchsorted(keypoints.rows, keypoints.row)
    num_rows = int(keypoints.rows.max()) + 1
    poses, codes = np.full(num_rows, -1, np.int16), np.zeros((num_rows, keypoints.codes.shape[1]), np.float32)
    poses[keypoints.rows], codes[keypoints.rows] = pose, keypoints.codes
    return LabelTable(
        round=number,
        row=keypoints.row[kept],
        view=np.zeros(int(kept.sum()), np.int16),
        x=keypoints.points[kept, 0],
        y=keypoints.points[kept, 1],
        score=keypoints.scores[kept],
        k=landmark[kept].astype(np.int16),
        q=pose[image][kept].astype(np.int16),
        distance=distance[kept],
        poses=poses,
        codes=codes,
        clusters=clusters.arrays(),
    )
