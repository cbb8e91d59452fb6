"""The relabel service: one named actor that clusters what all ranks found and hands the labels back to all of them.

Laws: a round is on disk before anyone sees it. The service has no state that its files don't have, so a restarted one goes on. A
round made twice is the same twice.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.exceptions import RayTaskError

from uldscale.clustering.two_stage import ClusterConfig, Clustering
from uldscale.errors import UserError
from uldscale.evaluation.clusters import pose_agreement
from uldscale.labels import LabelTable, prune
from uldscale.runs import RunFolder
from uldscale.runtime import telemetry
from uldscale.runtime.actors import is_waiting
from uldscale.runtime.cluster import NAMESPACE
from uldscale.runtime.placement import watching_placement
from uldscale.runtime.ranks import barrier, rank, world_size
from uldscale.runtime.roles import RuntimeConfig
from uldscale.training import checkpoints
from uldscale.training.description import Keypoints
from uldscale.training.relabelling import PART_SECONDS, cluster
from uldscale.training.schedule import CLUSTERING, Stage

SERIES = {
    "uldscale_label_churn_ratio": "churn",
    "uldscale_label_distance": "distance",
    "uldscale_label_inertia": "inertia",
    "uldscale_keypoints_per_image": "keypoints_per_image",
    "uldscale_labels_per_image": "labels_per_image",
}
"""Metrics of a round by the name of their figure in the log."""


class Relabeller:
    """Makes rounds of pseudo-labels and keeps them in a folder; a plain object, which the service wraps in an actor."""

    def __init__(
        self, config: ClusterConfig, run: RunFolder, *, seed: int, keep_rounds: int, yaw: NDArray[np.floating]
    ) -> None:
        """`yaw` (N,) of all rows in degrees, NaN where unknown, never enters a label: it says how good poses are."""
        self._config, self._run, self._seed, self._keep_rounds = config, run, seed, keep_rounds
        self._yaw = yaw
        self._parts: dict[int, Keypoints] = {}

    def add(self, part: int, keypoints: Keypoints) -> None:
        """Take the keypoints of one rank."""
        self._parts[part] = keypoints

    def make(self, stage: Stage, number: int, previous: int | None, parts: int) -> None:
        """Cluster the keypoints of all ranks into round `number`, which follows round `previous`, and write it."""
        start = time.monotonic()
        keypoints = Keypoints.joined([self._parts.pop(part) for part in range(parts)])
        before = None if previous is None else LabelTable.read(self._run.labels, previous)
        table = cluster(keypoints, self._config, CLUSTERING[stage], number=number, seed=self._seed, previous=before)
        with telemetry.timing(PART_SECONDS, part="write"):
            table.write(self._run.labels)
        in_use = {position.round for position in checkpoints.all_of(self._run.checkpoints)}
        prune(self._run.labels, self._keep_rounds, in_use)
        figures = _figures(table, before, keypoints)
        if CLUSTERING[stage] is Clustering.TWO_STAGE:
            figures |= self._pose_figures(table)
        seconds = time.monotonic() - start
        self._run.log(event="relabel", stage=stage.value, round=number, seconds=round(seconds, 3), **figures)
        telemetry.record("uldscale_relabel_seconds", seconds, stage=stage.value)
        _record(table, stage, figures)

    def _pose_figures(self, table: LabelTable) -> dict[str, Any]:
        """How far poses agree with yaw (paper, Figure 7); nothing where no yaw is known."""
        yaw = self._yaw[: len(table.poses)]
        if not (np.isfinite(yaw) & (table.poses >= 0)).any():
            return {}
        agreement = pose_agreement(table.poses.astype(int), yaw)
        return {"pose_purity": round(agreement.purity, 5), "pose_accuracy": agreement.accuracy}

    def labels(self, number: int) -> LabelTable:
        """The labels of a round."""
        return LabelTable.read(self._run.labels, number)

    def __call__(self, stage: Stage, number: int, previous: int | None, keypoints: Keypoints) -> LabelTable:
        """All of it, for a training rank that is alone."""
        self.add(0, keypoints)
        self.make(stage, number, previous, 1)
        return self.labels(number)


def _record(table: LabelTable, stage: Stage, figures: dict[str, Any]) -> None:
    telemetry.record("uldscale_relabel_round", table.round)
    for metric, name in SERIES.items():
        if name in figures:
            telemetry.record(metric, figures[name], stage=stage.value)
    if CLUSTERING[stage] is Clustering.OVER_SEGMENTED:
        return
    for landmark, count in enumerate(np.bincount(table.k, minlength=table.clusters["centroids"].shape[1])):
        telemetry.record("uldscale_label_cluster_images", int(count), stage=stage.value, landmark=str(landmark))
    for pose, count in enumerate(np.bincount(table.poses[table.poses >= 0])):
        telemetry.record("uldscale_pose_images", int(count), stage=stage.value, pose=str(pose))


def _figures(table: LabelTable, previous: LabelTable | None, keypoints: Keypoints) -> dict[str, Any]:
    images = len(keypoints.rows)
    figures: dict[str, Any] = {
        "keypoints_per_image": round(len(keypoints.row) / images, 3),
        "labels_per_image": round(len(table.row) / images, 3),
        "distance": round(float(table.distance.mean()), 5),
        "inertia": round(float(np.square(table.distance, dtype=np.float64).mean()), 5),
    }
    if previous is not None:
        figures["churn"] = round(table.churn(previous), 5)
    return figures


class RelabelClient:
    """What a training rank sees of the service."""

    def __init__(self, name: str) -> None:
        self._service: Any = ray.get_actor(name, NAMESPACE)

    def __call__(self, stage: Stage, number: int, previous: int | None, keypoints: Keypoints) -> LabelTable:
        """Give this rank's keypoints, get the labels of all images; every rank calls this.

        Raises the UserError of the service; what else goes wrong there is Ray's, after which the workers start again.
        """
        with telemetry.timing(PART_SECONDS, part="send"):
            _answer(self._service.add.remote(rank(), keypoints))
        barrier()
        if rank() == 0:
            _answer(self._service.make.remote(stage, number, previous, world_size()))
        barrier()
        with telemetry.timing(PART_SECONDS, part="pull"):
            table: LabelTable = _answer(self._service.labels.remote(number))
        return table


def _answer(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from error
        raise


@contextmanager
def relabel_service(relabeller: Relabeller, name: str, runtime: RuntimeConfig) -> Iterator[str]:
    """The service as a named actor for as long as the block runs; yields its name.

    Raises IncompleteError when it finds no place in the cluster in `runtime.wait_seconds`, at first or after the loss of its node.
    """
    role = runtime.relabel
    options = {**role.options(), "name": name, "namespace": NAMESPACE, "max_restarts": -1}
    actor: Any = ray.remote(_Service).options(**options).remote(relabeller)
    try:
        with watching_placement("relabel", role, 1, runtime.wait_seconds, lambda: is_waiting(actor)):
            yield name
    finally:
        ray.kill(actor)


class _Service:
    """The actor around a relabeller."""

    def __init__(self, relabeller: Relabeller) -> None:
        self._relabeller = relabeller

    def add(self, part: int, keypoints: Keypoints) -> None:
        self._relabeller.add(part, keypoints)

    def make(self, stage: Stage, number: int, previous: int | None, parts: int) -> None:
        self._relabeller.make(stage, number, previous, parts)

    def labels(self, number: int) -> LabelTable:
        return self._relabeller.labels(number)
