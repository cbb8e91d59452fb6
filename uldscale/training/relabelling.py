"""A round of pseudo-labels (paper, Algorithm 1): every rank describes its share of the images, one place clusters them all.

N' images of a share, n keypoints of all images, K landmarks, Q poses, D descriptor size, Z latent.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from uldscale.clustering import kmeans
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
from uldscale.models.keypoints import KeypointConfig, detect, inside_border, sample
from uldscale.models.network import Network
from uldscale.store.reader import FeatureReader

PASS_BATCH = 32


@dataclass(frozen=True)
class Keypoints:
    """Keypoints, descriptors and pose codes of some images."""

    rows: NDArray[np.int64]
    """(N',) rows of the store that were looked at."""
    codes: NDArray[np.float32]
    """(N', Z) pose codes."""
    row: NDArray[np.int64]
    """(n,) row of each keypoint."""
    points: NDArray[np.float32]
    """(n, 2) unit coordinates."""
    scores: NDArray[np.float32]
    """(n,) detector confidence in [0, 1]."""
    descriptors: NDArray[np.float32]
    """(n, D) unit norm."""

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> "Keypoints":
        """All parts in one, ordered by row, so that the number of parts leaves no trace."""
        whole = {field.name: np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)}
        images, points = np.argsort(whole["rows"], kind="stable"), np.argsort(whole["row"], kind="stable")
        return cls(**{name: values[images if name in ("rows", "codes") else points] for name, values in whole.items()})


def describe(
    network: Network, reader: FeatureReader, rows: NDArray[np.int64], config: KeypointConfig, border: float
) -> Keypoints:
    """Keypoints of some images as they are (view 0), found by the network in its present state inside the border."""
    chunks = [rows[start : start + PASS_BATCH] for start in range(0, len(rows), PASS_BATCH)]
    return Keypoints.joined(list(_describe(network, reader, chunks, config, border)))


@torch.no_grad()
def _describe(
    network: Network, reader: FeatureReader, chunks: list[NDArray[np.int64]], config: KeypointConfig, border: float
) -> Iterator[Keypoints]:
    device = next(network.parameters()).device
    requests = [(chunk, np.zeros_like(chunk)) for chunk in chunks]
    for chunk, maps in zip(chunks, reader.prefetch(requests), strict=True):
        outputs = network({name: torch.from_numpy(values).to(device) for name, values in maps.items()})
        found = detect(outputs.logits.sigmoid(), config, inside_border(outputs.logits, border))
        descriptors = sample(outputs.descriptors, found.points)
        valid = found.valid
        yield Keypoints(
            rows=chunk,
            codes=network.codes(outputs.logits).cpu().numpy(),
            row=np.repeat(chunk, valid.sum(1).cpu().numpy()),
            points=found.points[valid].cpu().numpy(),
            scores=found.scores[valid].cpu().numpy(),
            descriptors=descriptors[valid].cpu().numpy(),
        )


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

    Landmarks and poses keep the meaning that they had in the `previous` round; the M labels of the over-segmented clustering
    are new in each. Raises DataError when there are fewer keypoints than landmarks.
    """
    if len(keypoints.row) < config.landmarks:
        raise DataError(
            f"round {number} found {len(keypoints.row)} keypoints on {len(keypoints.rows)} images, but {config.landmarks} landmarks "
            "are wanted; train longer, add images or lower train.keypoints.threshold"
        )
    before = None if previous is None else Clusters.from_arrays(previous.clusters)
    image = np.searchsorted(keypoints.rows, keypoints.row)
    if kind is Clustering.TWO_STAGE:
        poses_before = (
            None
            if previous is None or before is None or before.pose_centroids is None
            else previous.poses[keypoints.rows]
        )
        clusters = two_stage(
            keypoints.descriptors,
            image,
            keypoints.codes,
            config,
            seed=seed,
            previous=before,
            previous_poses=poses_before,
        )
    else:
        clusters = single_stage(keypoints.descriptors, config, seed=seed, previous=before)
    pose = assign_poses(keypoints.codes, clusters)
    landmark, distance = label(keypoints.descriptors, pose[image], clusters)
    kept = keep(keypoints.row, landmark, distance, gate=config.gate)
    if kind is Clustering.OVER_SEGMENTED:
        landmark, distance, kept = _over_segmented(keypoints, kept, config, seed)
    return _table(keypoints, pose, landmark, distance, kept, clusters, number)


def _over_segmented(
    keypoints: Keypoints, kept: NDArray[np.bool_], config: ClusterConfig, seed: int
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.bool_]]:
    """Labels (n,) among M clusters of the kept keypoints, distances (n,), and which of the kept are exemplars of theirs."""
    exemplars = keypoints.descriptors[kept]
    centroids = kmeans.fit(exemplars, min(config.segments, len(exemplars)), seed=seed, sample=config.sample)
    segment, distance = kmeans.assign(keypoints.descriptors, centroids)
    still = kept.copy()
    still[kept] = keep(keypoints.row[kept], segment[kept], distance[kept])
    return segment, distance, still


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
