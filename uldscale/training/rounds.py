"""A round of pseudo-labels at a rank (paper, Algorithm 1): its images are described here, a sample of them is fitted somewhere, and
the rest of the work is done here again.

Laws: equal labels for any number of ranks, and however long after its beginning a round is ended. A round that was written counts
when all ranks have written theirs.
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
from uldscale.training import checkpoints, symptoms, warnings
from uldscale.training.anchors import find_anchors
from uldscale.training.described import Described
from uldscale.training.description import Keypoints, describe
from uldscale.training.fence import Fence
from uldscale.training.journal import Journal
from uldscale.training.labelling import Labelling
from uldscale.training.relabelling import PART_SECONDS
from uldscale.training.sample import sample
from uldscale.training.schedule import CLUSTERING, Stage, TrainConfig
from uldscale.training.tally import Tally

Fit = Callable[[Stage, int, int | None, Keypoints], Callable[[], Labelling]]
"""Begins to fit (stage, round, the round before, this rank's part of the sample); called by every rank. What it returns waits for the
end, and gives the same to all."""


@dataclass(frozen=True)
class Begun:
    """A round that is being fitted."""

    stage: Stage
    number: int
    before: Labels | None
    own: list[range]
    """Blocks of this rank."""
    described: Described
    """Keypoints of each of them."""
    labelling: Callable[[], Labelling]
    seconds: float
    """That the beginning took."""


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

    def begin(self, stage: Stage, number: int, before: Labels | None) -> Begun:
        """Round `number`, which follows the round `before`: see what the network, in its present state, makes of the images, and let a
        sample of them be fitted.
        """
        start, device = time.monotonic(), next(self.network.parameters()).device
        mine = share(np.arange(len(blocks(self.num_rows))), rank(), world_size())
        # A rank without images has none of one block.
        own = [blocks(self.num_rows)[block] for block in mine] or [range(0)]
        described = self._describe(own, stage, before)
        part = sample(described, self.config.clusters.sample, seed=self.config.seed, device=device)
        labelling = self.fit(stage, number, None if before is None else before.number, part)
        return Begun(stage, number, before, own, described, labelling, time.monotonic() - start)

    def end(self, begun: Begun) -> Labels:
        """Wait for the fit, and label the images."""
        start, device = time.monotonic() - begun.seconds, next(self.network.parameters()).device
        tally = self._write(begun, begun.labelling()).of_all_ranks(device)
        if rank() == 0:
            self._commit(begun, tally.figures(follows=begun.before is not None), start)
            _record(begun.stage, begun.number, tally)
        barrier()
        return Labels.open(self.run.labels, begun.number)

    def _describe(self, own: list[range], stage: Stage, before: Labels | None) -> Described:
        """Keypoints of this rank's blocks: cells for the first round, then peaks where they are over-segmented, or the landmarks of
        the round before; peaks throughout, if that is set.
        """
        only_peaks = self.config.keypoints.source == "peaks"
        peaks, anchors, described = only_peaks or CLUSTERING[stage] is Clustering.OVER_SEGMENTED, None, Described()
        rows = [self._in(block) for block in own]
        with self.journal.round(sum(map(len, rows))) as progress, telemetry.timing(PART_SECONDS, part="describe"):
            if before is not None and not peaks:
                clusters = Labelling.from_arrays(before.labelling).clusters
                anchors = find_anchors(self.network, self.reader, self.rows, before, clusters)
            for keypoints in describe(
                self.network, self.reader, rows, self.config.keypoints, self.border, before, anchors,
                dense=before is None and not only_peaks, advance=progress.advance if progress else lambda count: None,
            ):  # fmt: skip
                described.append(keypoints)
        return described

    def _in(self, block: range) -> NDArray[np.int64]:
        """Training rows of a block."""
        first, last = np.searchsorted(self.rows, (block.start, block.stop))
        return self.rows[first:last]

    def _write(self, begun: Begun, labelling: Labelling) -> Tally:
        """Label and write this rank's blocks, each by itself: the last bits may hang on what is computed together."""
        latent, poses = self.config.network.vae.latent, len(labelling.clusters.centroids)
        labels = Labels.create(self.run.labels, begun.number, self.num_rows, labelling.count, latent)
        tallies = [Tally.none(labelling.count, poses)]
        for block, some in zip(begun.own, begun.described, strict=True):
            with telemetry.timing(PART_SECONDS, part="assign"):
                found = labelling(some) if len(some.rows) else Exemplars.none(some.rows, labelling.count, latent)
            with telemetry.timing(PART_SECONDS, part="write"):
                labels.write(block, found)
            tallies.append(Tally.of(some, found, poses))
        return Tally.added(tallies)

    def _commit(self, begun: Begun, figures: dict[str, Any], start: float) -> None:
        """Make the round valid, drop those that nobody needs any more, and tell of it."""
        stage, labels = begun.stage, Labels.open(self.run.labels, begun.number, valid=False)
        if CLUSTERING[stage] is Clustering.TWO_STAGE:
            figures |= self._pose_figures(labels.poses)
        if self.fence:
            self.fence.require()
        labels.commit(figures)
        in_use = {position.round for position in checkpoints.all_of(self.run.checkpoints)}
        prune(self.run.labels, self.config.keep_rounds, in_use)
        self._warn(begun, labels, figures)
        seconds = time.monotonic() - start
        self.run.log(event="relabel", stage=stage.value, round=begun.number, seconds=round(seconds, 3), **figures)
        telemetry.record("uldscale_relabel_seconds", seconds, stage=stage.value)
        for name, metric in _SERIES.items():
            if name in figures:
                telemetry.record(metric, figures[name], stage=stage.value)

    def _warn(self, begun: Begun, labels: Labels, figures: dict[str, Any]) -> None:
        """Of a round that follows another: the first is of a network without labels, and segments are no landmarks."""
        if begun.before is None or CLUSTERING[begun.stage] is Clustering.OVER_SEGMENTED:
            return
        own = [event for event in self.run.rounds(begun.stage.value) if event["round"] < begun.number] + [figures]
        first = own if begun.stage is Stage.D_ULD else self.run.rounds(Stage.D_ULD.value)
        warnings.tell(self.run, "labels", symptoms.of_churn(begun.stage.value, first, own), shown=self.journal.shown)
        points = labels.points(symptoms.spread(self.rows))
        warnings.tell(self.run, "landmarks", symptoms.of_places(points, self.border), shown=self.journal.shown)

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
