"""A round of pseudo-labels at a rank (paper, Algorithm 1): its images are described here, a sample of them is fitted somewhere, and
the rest of the work is done here again.

Laws: equal labels for any number of ranks. A round that was written counts when all ranks have written theirs.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uldscale.clustering.two_stage import Clustering
from uldscale.evaluation.clusters import pose_agreement
from uldscale.labels import Exemplars, Labels, blocks, prune
from uldscale.models.network import Network
from uldscale.runs import RunFolder
from uldscale.runtime import telemetry
from uldscale.runtime.ranks import barrier, rank, world_size
from uldscale.store.reader import FeatureReader
from uldscale.store.sampling import share
from uldscale.training import checkpoints
from uldscale.training.anchors import find_anchors
from uldscale.training.description import Keypoints, describe
from uldscale.training.fence import Fence
from uldscale.training.journal import Journal
from uldscale.training.labelling import Labelling
from uldscale.training.passes import parts_of
from uldscale.training.relabelling import PART_SECONDS
from uldscale.training.sample import sample
from uldscale.training.schedule import CLUSTERING, Stage, TrainConfig
from uldscale.training.tally import Tally

Fit = Callable[[Stage, int, int | None, Keypoints], Labelling]
"""Fits (stage, round, the round before, this rank's part of the sample); called by every rank, returns the same to all."""


@dataclass(frozen=True)
class Rounds:
    """Makes rounds of labels of the training rows of a store; every rank has one, and calls it at the same time."""

    config: TrainConfig
    run: RunFolder
    network: Network
    reader: FeatureReader
    rows: NDArray[np.int64]
    """Training rows of the store, of all ranks, rising."""
    num_rows: int
    """Of the store."""
    yaw: NDArray[np.floating]
    """(N,) of all rows in degrees, NaN where unknown; never enters a label: it says how good poses are."""
    border: float
    fit: Fit
    journal: Journal
    fence: Fence | None
    """Of the first rank, which commits."""

    def make(self, stage: Stage, number: int, before: Labels | None) -> Labels:
        """Round `number`, which follows the round `before`."""
        start, device = time.monotonic(), next(self.network.parameters()).device
        mine = share(np.arange(len(blocks(self.num_rows))), rank(), world_size())
        own = [blocks(self.num_rows)[block] for block in mine]
        keypoints = self._describe(own, stage, before)
        part = sample(keypoints, self.config.clusters.sample, seed=self.config.seed, device=device)
        labelling = self.fit(stage, number, None if before is None else before.number, part)
        tally = self._write(number, own, keypoints, labelling).of_all_ranks(device)
        if rank() == 0:
            self._commit(stage, number, tally.figures(follows=before is not None), start)
            _record(stage, number, tally)
        barrier()
        return Labels.open(self.run.labels, number)

    def _describe(self, own: list[range], stage: Stage, before: Labels | None) -> Keypoints:
        """Keypoints of this rank's blocks: cells for the first round, then peaks where they are over-segmented, or the landmarks of
        the round before.
        """
        peaks, anchors = CLUSTERING[stage] is Clustering.OVER_SEGMENTED, None
        rows = [self._in(block) for block in own]
        with self.journal.round(sum(map(len, rows))) as progress, telemetry.timing(PART_SECONDS, part="describe"):
            if before is not None and not peaks:
                clusters = Labelling.from_arrays(before.labelling).clusters
                anchors = find_anchors(self.network, self.reader, self.rows, before, clusters)
            return describe(
                self.network, self.reader, parts_of(rows), self.config.keypoints, self.border, before, anchors,
                dense=before is None, advance=progress.advance if progress else lambda count: None,
            )  # fmt: skip

    def _in(self, block: range) -> NDArray[np.int64]:
        """Training rows of a block."""
        first, last = np.searchsorted(self.rows, (block.start, block.stop))
        return self.rows[first:last]

    def _write(self, number: int, own: list[range], keypoints: Keypoints, labelling: Labelling) -> Tally:
        """Label and write this rank's blocks, each by itself: the last bits may hang on what is computed together."""
        latent, poses = keypoints.codes.shape[1], len(labelling.clusters.centroids)
        labels = Labels.create(self.run.labels, number, self.num_rows, labelling.count, latent)
        tallies = [Tally.none(labelling.count, poses)]
        for block in own:
            some = keypoints.on((keypoints.rows >= block.start) & (keypoints.rows < block.stop))
            with telemetry.timing(PART_SECONDS, part="assign"):
                found = labelling(some) if len(some.rows) else Exemplars.none(some.rows, labelling.count, latent)
            with telemetry.timing(PART_SECONDS, part="write"):
                labels.write(block, found)
            tallies.append(Tally.of(some, found, poses))
        return Tally.added(tallies)

    def _commit(self, stage: Stage, number: int, figures: dict[str, Any], start: float) -> None:
        """Make the round valid, drop those that nobody needs any more, and tell of it."""
        labels = Labels.open(self.run.labels, number, valid=False)
        if CLUSTERING[stage] is Clustering.TWO_STAGE:
            figures |= self._pose_figures(labels.poses)
        if self.fence:
            self.fence.require()
        labels.commit(figures)
        in_use = {position.round for position in checkpoints.all_of(self.run.checkpoints)}
        prune(self.run.labels, self.config.keep_rounds, in_use)
        seconds = time.monotonic() - start
        self.run.log(event="relabel", stage=stage.value, round=number, seconds=round(seconds, 3), **figures)
        telemetry.record("uldscale_relabel_seconds", seconds, stage=stage.value)
        for name, metric in _SERIES.items():
            if name in figures:
                telemetry.record(metric, figures[name], stage=stage.value)

    def _pose_figures(self, poses: NDArray[np.int64]) -> dict[str, Any]:
        """How far poses agree with yaw (paper, Figure 7); nothing where no yaw is known."""
        if not (np.isfinite(self.yaw) & (poses >= 0)).any():
            return {}
        agreement = pose_agreement(poses, self.yaw)
        return {"pose_purity": round(agreement.purity, 5), "pose_accuracy": agreement.accuracy}


_SERIES = {
    "churn": "uldscale_label_churn_ratio",
    "distance": "uldscale_label_distance",
    "inertia": "uldscale_label_inertia",
    "keypoints_per_image": "uldscale_keypoints_per_image",
    "labels_per_image": "uldscale_labels_per_image",
}
"""Metrics of a round by the name of their figure in the log."""


def _record(stage: Stage, number: int, tally: Tally) -> None:
    telemetry.record("uldscale_relabel_round", number)
    if CLUSTERING[stage] is Clustering.OVER_SEGMENTED:
        return
    for landmark, images in enumerate(tally.landmarks):
        telemetry.record("uldscale_label_cluster_images", int(images), stage=stage.value, landmark=str(landmark))
    for pose, images in enumerate(tally.poses):
        telemetry.record("uldscale_pose_images", int(images), stage=stage.value, pose=str(pose))
