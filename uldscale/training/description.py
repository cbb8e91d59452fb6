"""What one rank sees of its share of the images: keypoints, descriptors, pose codes (paper, Algorithm 1, steps 1 and 3).

N' images of a share, n keypoints of all of them, K landmarks, D descriptor size, Z latent.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uldscale.clustering.two_stage import Clusters
from uldscale.models.keypoints import KeypointConfig, detect, inside_border, sample
from uldscale.models.network import Network
from uldscale.store.reader import FeatureReader
from uldscale.training.batches import DenseLabels

PASS_BATCH = 32
_ANCHOR_STEP = 2.0**-30


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
    anchors: NDArray[np.int64]
    """(K, D) sums of the descriptors at the points that the last round labelled, K = 0 before the first; whole numbers of 2^-30,
    whose sum is the same in any order."""
    anchored: NDArray[np.int64]
    """(K,) terms of those sums."""

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> "Keypoints":
        """All parts in one, ordered by row, so that the number of parts leaves no trace."""
        lists = {field.name: [getattr(part, field.name) for part in parts] for field in fields(cls)}
        sums = {name: np.sum(lists.pop(name), axis=0) for name in ("anchors", "anchored")}
        whole = {name: np.concatenate(values) for name, values in lists.items()}
        images, points = np.argsort(whole["rows"], kind="stable"), np.argsort(whole["row"], kind="stable")
        ordered = {name: values[images if name in ("rows", "codes") else points] for name, values in whole.items()}
        return cls(**ordered, **sums)

    def as_seen_now(self, before: Clusters) -> Clusters:
        """Clusters of the last round with the landmarks where their members' descriptors are now that the network has moved on.

        A landmark that was on none of the images stays where it was.
        """
        means = self.anchors * _ANCHOR_STEP / np.maximum(self.anchored, 1)[:, None]
        seen = (self.anchored > 0)[:, None]
        return replace(before, global_centroids=np.where(seen, means, before.global_centroids).astype(np.float32))


def describe(
    network: Network,
    reader: FeatureReader,
    rows: NDArray[np.int64],
    config: KeypointConfig,
    border: float,
    labels: DenseLabels | None = None,
) -> Keypoints:
    """Keypoints of some images as they are (view 0), found by the network in its present state inside the border.

    `labels` are those of the last round, if there was one.
    """
    chunks = [rows[start : start + PASS_BATCH] for start in range(0, len(rows), PASS_BATCH)]
    return Keypoints.joined(list(_describe(network, reader, chunks, config, border, labels)))


@torch.no_grad()
def _describe(
    network: Network,
    reader: FeatureReader,
    chunks: list[NDArray[np.int64]],
    config: KeypointConfig,
    border: float,
    labels: DenseLabels | None,
) -> Iterator[Keypoints]:
    device = next(network.parameters()).device
    requests = [(chunk, np.zeros_like(chunk)) for chunk in chunks]
    for chunk, maps in zip(chunks, reader.prefetch(requests), strict=True):
        outputs = network({name: torch.from_numpy(values).to(device) for name, values in maps.items()})
        found = detect(outputs.logits.sigmoid(), config, inside_border(outputs.logits, border))
        descriptors = sample(outputs.descriptors, found.points)
        valid = found.valid
        anchors, anchored = _anchors(outputs.descriptors, chunk, labels)
        yield Keypoints(
            rows=chunk,
            codes=network.codes(outputs.logits).cpu().numpy(),
            row=np.repeat(chunk, valid.sum(1).cpu().numpy()),
            points=found.points[valid].cpu().numpy(),
            scores=found.scores[valid].cpu().numpy(),
            descriptors=descriptors[valid].cpu().numpy(),
            anchors=anchors,
            anchored=anchored,
        )


def _anchors(
    maps: Tensor, rows: NDArray[np.int64], labels: DenseLabels | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sums (K, D) of descriptors (B, D, G, G) at the labelled points of rows (B,), and their numbers (K,)."""
    if labels is None:
        return np.zeros((0, maps.shape[1]), np.int64), np.zeros(0, np.int64)
    points = torch.from_numpy(labels.points[rows]).to(maps.device)
    steps = (sample(maps, points).double() / _ANCHOR_STEP).round().long().sum(0)
    return steps.cpu().numpy(), points.isfinite().all(-1).sum(0).cpu().numpy()
