"""Anchors: where the landmarks of the last round are among the descriptors, now that the network has moved on.

Centroids of the last round belong to the network that made them. Started from those, K-means loses landmarks: on real faces four of
ten changed places in the second round.

N images, Q poses, K landmarks, D descriptor size.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from uldscale.clustering.two_stage import Clusters
from uldscale.labels import Labels
from uldscale.models.keypoints import sample
from uldscale.models.network import Network
from uldscale.runtime.ranks import gather, rank, world_size
from uldscale.store.reader import FeatureReader
from uldscale.store.sampling import share
from uldscale.training.passes import outputs_of, parts_of

ANCHOR_IMAGES = 1000
"""So many images, evenly spread over all, are enough for a mean."""
MIN_MEMBERS = 10
"""A pose with fewer members of a landmark has the anchor of all poses."""
_STEP = 2.0**-30  # descriptors are summed in whole numbers of it, whose sum is the same in any order


@dataclass(frozen=True)
class Anchors:
    """Mean descriptors of the points that the last round labelled."""

    landmarks: NDArray[np.float32]
    """(K, D) over all poses."""
    centroids: NDArray[np.float32]
    """(Q, K, D) within a pose."""
    poses: NDArray[np.int64]
    """(N,) pose of each row in the last round; -1 where it had none."""

    def of(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Anchors (B, K, D) of rows (B,): those of their pose."""
        poses = self.poses[rows]
        return np.where((poses >= 0)[:, None, None], self.centroids[poses.clip(0)], self.landmarks)


@torch.no_grad()
def find_anchors(
    network: Network, reader: FeatureReader, rows: NDArray[np.int64], labels: Labels, before: Clusters
) -> Anchors:
    """Anchors of the labels of the last round, whose clusters were `before`; every rank calls this with all training rows.

    A landmark that no image has stays at its centroid.
    """
    some = rows[:: max(1, len(rows) // ANCHOR_IMAGES)]
    parts = parts_of([some[labels.poses[some] >= 0]])
    mine = [parts[number] for number in share(np.arange(len(parts)), rank(), world_size())]
    sums, counts = _sums(network, reader, mine, labels, len(before.centroids))
    sums, counts = gather(sums[None]).sum(0), gather(counts[None]).sum(0)
    old = torch.from_numpy(before.global_centroids).to(sums.device)
    landmarks = _means(sums.sum(0), counts.sum(0), 1, old)
    centroids = _means(sums, counts, MIN_MEMBERS, landmarks)
    return Anchors(landmarks.cpu().numpy(), centroids.cpu().numpy(), labels.poses)


def _sums(
    network: Network, reader: FeatureReader, parts: list[NDArray[np.int64]], labels: Labels, num_poses: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums (Q, K, D) in steps and counts (Q, K) of the descriptors at the labelled points of some rows."""
    device, num_landmarks = next(network.parameters()).device, labels.count
    size = network.descriptor.last.out_channels
    sums = torch.zeros(num_poses, num_landmarks, size, dtype=torch.int64, device=device)
    counts = torch.zeros(num_poses, num_landmarks, dtype=torch.int64, device=device)
    for chunk, outputs in outputs_of(network, reader, parts):
        points, poses = (torch.from_numpy(found).to(device) for found in (labels.points(chunk), labels.poses[chunk]))
        members = (sample(outputs.descriptors, points).double() / _STEP).round().long()
        sums.index_add_(0, poses, members)
        counts.index_add_(0, poses, points.isfinite().all(-1).long())
    return sums, counts


def _means(sums: torch.Tensor, counts: torch.Tensor, least: int, otherwise: torch.Tensor) -> torch.Tensor:
    means = (sums.double() * _STEP / counts.clamp_min(1)[..., None]).float()
    return means.where((counts >= least)[..., None], otherwise)
