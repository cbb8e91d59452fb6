"""A round of pseudo-labels (paper, Algorithm 1): every rank describes its share of the images, one place clusters them all.

N' images of a share, n keypoints of all images, K landmarks, Q poses, D descriptor size, Z latent.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from uldscale.clustering.exemplars import keep
from uldscale.clustering.two_stage import ClusterConfig, Clusters, assign_poses, label, single_stage, two_stage
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
    keypoints: Keypoints, config: ClusterConfig, *, number: int, by_pose: bool, seed: int, previous: LabelTable | None
) -> LabelTable:
    """Round `number` of pseudo-labels: one k-means (D-ULD), or k-means of codes, then of descriptors in each pose (D-ULD++).

    Clusters and poses keep the meaning that they had in the `previous` round. Raises DataError when there are fewer keypoints
    than landmarks.
    """
    if len(keypoints.row) < config.landmarks:
        raise DataError(
            f"round {number} found {len(keypoints.row)} keypoints on {len(keypoints.rows)} images, but {config.landmarks} landmarks "
            "are wanted; train longer, add images or lower train.keypoints.threshold"
        )
    before = None if previous is None else Clusters.from_arrays(previous.clusters)
    image = np.searchsorted(keypoints.rows, keypoints.row)
    if by_pose:
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
    return _table(keypoints, image, clusters, number, gate=config.gate)


def _table(
    keypoints: Keypoints, image: NDArray[np.int64], clusters: Clusters, number: int, *, gate: bool
) -> LabelTable:
    pose = assign_poses(keypoints.codes, clusters)
    landmark, distance = label(keypoints.descriptors, pose[image], clusters)
    kept = keep(keypoints.row, landmark, distance, gate=gate)
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
