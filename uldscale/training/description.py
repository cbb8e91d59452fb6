"""What one rank sees of its share of the images: keypoints, descriptors, pose codes (paper, Algorithm 1, steps 1 and 3).

N' images of a share, n keypoints of all of them, K landmarks, Q poses, D descriptor size, Z latent.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from uldscale.labels import Labels
from uldscale.models.keypoints import KeypointConfig, detect, inside_border, sample
from uldscale.models.landmarks import Located, locate, vertex
from uldscale.models.network import Network, Outputs
from uldscale.store.reader import FeatureReader
from uldscale.training.anchors import Anchors
from uldscale.training.passes import outputs_of, parts_of

_OF_IMAGES = ("rows", "codes", "places", "poses")


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
    places: NDArray[np.float32]
    """(N', K, 2) unit coordinates of the last round's labels, NaN where missing; K = 0 without one."""
    poses: NDArray[np.int64]
    """(N',) poses of the last round, -1 where there was none."""
    anchors: NDArray[np.float32] | None
    """(K, D) anchors of all poses, of which the keypoints are the exemplars; None when keypoints are peaks or cells."""

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> "Keypoints":
        """All parts in one, ordered by row, so that the number of parts leaves no trace."""
        names = [field.name for field in fields(cls) if field.name != "anchors"]
        whole = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        images, points = np.argsort(whole["rows"], kind="stable"), np.argsort(whole["row"], kind="stable")
        ordered = {name: values[images if name in _OF_IMAGES else points] for name, values in whole.items()}
        return cls(**ordered, anchors=parts[0].anchors)

    def on(self, images: NDArray[np.bool_]) -> Self:
        """Those of some of the images (N',), which are ordered by row."""
        points = images[np.searchsorted(self.rows, self.row)]
        names = [field.name for field in fields(self) if field.name != "anchors"]
        return replace(self, **{name: getattr(self, name)[images if name in _OF_IMAGES else points] for name in names})


@torch.no_grad()
def describe(
    network: Network,
    reader: FeatureReader,
    blocks: Sequence[NDArray[np.int64]],
    config: KeypointConfig,
    border: float,
    before: Labels | None = None,
    anchors: Anchors | None = None,
    *,
    dense: bool = False,
    advance: Callable[[int], None] = lambda count: None,
) -> Iterator[Keypoints]:
    """Keypoints of some images as they are (view 0), a block of rows after the other, found inside the border by the network in its
    present state.

    `before` are the labels of the last round. With `anchors` keypoints are the landmarks of each image, else the peaks of its heatmap,
    or with `dense` the cells that cover it. `advance` is told of every few images.
    """
    passes = outputs_of(network, reader, parts_of(blocks))
    for block in blocks:
        described = [_none(network, before, anchors)]
        for chunk, outputs in islice(passes, len(parts_of([block]))):
            if anchors is None:
                found = _peaks(outputs, config, border, dense)
            else:
                found = _landmarks(outputs, config, border, anchors.of(chunk))
            described.append(_keypoints(chunk, network.codes(outputs.logits), found, before, anchors))
            advance(len(chunk))
        yield Keypoints.joined(described)


def _peaks(outputs: Outputs, config: KeypointConfig, border: float, dense: bool) -> Located:
    heat = outputs.logits.sigmoid()
    found = detect(heat, config, inside_border(heat, border), dense=dense)
    return Located(found.points, found.scores, sample(outputs.descriptors, found.points))


def _landmarks(outputs: Outputs, config: KeypointConfig, border: float, anchors: NDArray[np.float32]) -> Located:
    heat, centroids = outputs.logits.sigmoid(), torch.from_numpy(anchors).to(outputs.logits.device)
    # Labels at centres of mass draw closer with every round: forward NME 5.07 instead of 4.96 after three.
    found = locate(heat, outputs.descriptors, centroids, inside_border(heat, border), config.visible, vertex)
    return _apart(found, 1 / heat.shape[-1])


def _apart(found: Located, least: float) -> Located:
    """Without the worse of two landmarks of an image nearer than `least`: taught to be in one place, they would never part again."""
    near = (found.points[:, :, None] - found.points[:, None]).norm(dim=-1) < least
    mine, other = found.scores[:, :, None], found.scores[:, None]
    # Of equals the first stays.
    worse = (mine < other) | (mine == other).tril(-1)
    lost = (near & worse).any(-1, keepdim=True)
    return Located(
        found.points.masked_fill(lost, torch.nan),
        found.scores.masked_fill(lost[..., 0], 0.0),
        found.descriptors.masked_fill(lost, 0.0),
    )


def _none(network: Network, before: Labels | None, anchors: Anchors | None) -> Keypoints:
    """Of no image: a rank may have none."""
    no = np.zeros(0, np.int64)
    return Keypoints(
        rows=no,
        codes=np.zeros((0, network.config.vae.latent), np.float32),
        row=no,
        points=np.zeros((0, 2), np.float32),
        scores=np.zeros(0, np.float32),
        descriptors=np.zeros((0, network.descriptor.last.out_channels), np.float32),
        places=np.zeros((0, 0 if before is None else before.count, 2), np.float32),
        poses=no,
        anchors=None if anchors is None else anchors.landmarks,
    )


def _keypoints(
    rows: NDArray[np.int64], codes: torch.Tensor, found: Located, before: Labels | None, anchors: Anchors | None
) -> Keypoints:
    valid = found.points.isfinite().all(-1)
    return Keypoints(
        rows=rows,
        codes=codes.cpu().numpy(),
        row=np.repeat(rows, valid.sum(1).cpu().numpy()),
        points=found.points[valid].cpu().numpy(),
        scores=found.scores[valid].cpu().numpy(),
        descriptors=found.descriptors[valid].cpu().numpy(),
        places=np.zeros((len(rows), 0, 2), np.float32) if before is None else before.points(rows),
        poses=before.poses[rows] if before is not None and before.posed else np.full(len(rows), -1),
        anchors=None if anchors is None else anchors.landmarks,
    )
