"""The fit of a round of pseudo-labels (paper, Algorithm 1): all that is global, from a sample of images.

n keypoints of the sample, K landmarks, Q poses.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from uldscale.clustering import kmeans
from uldscale.clustering.candidates import discover
from uldscale.clustering.exemplars import gates, keep
from uldscale.clustering.poses import Poses
from uldscale.clustering.two_stage import ClusterConfig, Clustering, Clusters, label, single_stage, two_stage
from uldscale.errors import DataError
from uldscale.training.description import Keypoints
from uldscale.training.labelling import Labelling
from uldscale.training.schedule import TrainConfig

PART_SECONDS = "uldscale_relabel_part_seconds_total"
KEYPOINT_BYTES = 20
"""Of a keypoint, beside its descriptor."""
HELD = 2.2
"""Times the sample in float32 that is held while it is fitted; 2.0 were measured on a million descriptors of 128 numbers."""


def held_bytes(config: TrainConfig, images: int) -> float:
    """Memory of a fit for some training images, beside that of its process."""
    keypoints = min(config.clusters.sample, images * config.keypoints.maximum)
    return HELD * keypoints * (4.0 * config.network.heads.descriptor + KEYPOINT_BYTES)


def fit(
    sample: Keypoints, config: ClusterConfig, kind: Clustering, *, number: int, seed: int, previous: Clusters | None
) -> Labelling:
    """Round `number` of pseudo-labels, fitted.

    Landmarks and poses keep the meaning that they had in the `previous` round; the labels of the over-segmented clustering
    are new in each, as in the code that the paper cites. Raises DataError when there are fewer keypoints than landmarks.
    """
    if len(sample.row) < config.landmarks:
        raise DataError(
            f"round {number} found {len(sample.row)} keypoints on {len(sample.rows)} images, but {config.landmarks} landmarks "
            "are wanted; train longer, add images or lower train.keypoints.visible"
        )
    if kind is Clustering.OVER_SEGMENTED:
        return _over_segmented(sample, config, seed)
    if previous is None and config.candidates > 1:
        return _first(sample, config, seed)
    if previous is not None and sample.anchors is not None:
        previous = replace(previous, global_centroids=sample.anchors)
    if kind is Clustering.SINGLE_STAGE:
        clusters = single_stage(sample.descriptors, config, seed, previous)
        pose = np.zeros(len(sample.rows), np.int32)
        return Labelling(clusters, gate=_gate(sample, pose, clusters, config))
    return _in_poses(sample, config, seed, previous)


def _first(sample: Keypoints, config: ClusterConfig, seed: int) -> Labelling:
    """Landmarks chosen among candidates."""
    candidates, chosen = discover(
        sample.descriptors,
        sample.row,
        sample.points,
        config.landmarks,
        candidates=round(config.candidates * config.landmarks),
        min_distance=config.spacing,
        seed=seed,
    )
    centroids, gate = candidates[chosen], None
    if config.gate:
        gate = gates(*kmeans.assign(sample.descriptors, candidates), len(candidates))[chosen]
    return Labelling(Clusters(centroids[None], centroids), gate=gate, candidates=candidates, numbers=chosen)


def _in_poses(sample: Keypoints, config: ClusterConfig, seed: int, previous: Clusters | None) -> Labelling:
    """K landmarks in each of Q poses."""
    image = np.searchsorted(sample.rows, sample.row)
    if config.align:
        poses = Poses.fit(sample.codes, sample.places, sample.poses, config.poses, seed=seed)
        pose = poses.of(sample.codes, sample.places)
    else:
        poses = None
        pose = kmeans.assign(sample.codes, kmeans.fit(sample.codes, config.poses, seed=seed))[0]
    clusters = two_stage(sample.descriptors, image, sample.codes, pose, config, seed, previous)
    return Labelling(clusters, poses, _gate(sample, pose, clusters, config))


def _over_segmented(sample: Keypoints, config: ClusterConfig, seed: int) -> Labelling:
    """K landmarks; then their exemplars' M clusters, whose exemplars are the labels."""
    clusters = single_stage(sample.descriptors, config, seed)
    gate = _gate(sample, np.zeros(len(sample.rows), np.int32), clusters, config)
    kept = keep(sample.row, *kmeans.assign(sample.descriptors, clusters.global_centroids), gate)
    exemplars = sample.descriptors[kept]
    segments = kmeans.fit(exemplars, min(config.segments, len(exemplars)), seed=seed)
    return Labelling(clusters, gate=gate, segments=segments)


def _gate(
    sample: Keypoints, pose: NDArray[np.int32], clusters: Clusters, config: ClusterConfig
) -> NDArray[np.float64] | None:
    if not config.gate:
        return None
    image = np.searchsorted(sample.rows, sample.row)
    return gates(*label(sample.descriptors, pose[image], clusters), config.landmarks)
