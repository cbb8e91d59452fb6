"""The relabel service: one named actor that fits a round of labels on a sample of what all ranks found.

Laws: what was fitted is on disk before anyone sees it. The service has no state that its files don't have but the sample on its way,
for which a restarted one asks again. A round fitted twice is the same twice.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayTaskError

from uldscale import labels
from uldscale.clustering.two_stage import ClusterConfig
from uldscale.errors import UserError
from uldscale.runs import RunFolder
from uldscale.runtime import telemetry
from uldscale.runtime.actors import is_waiting
from uldscale.runtime.cluster import NAMESPACE
from uldscale.runtime.placement import watching_placement
from uldscale.runtime.ranks import barrier, of_first, rank, world_size
from uldscale.runtime.roles import RuntimeConfig
from uldscale.training.description import Keypoints
from uldscale.training.labelling import Labelling
from uldscale.training.relabelling import PART_SECONDS, fit
from uldscale.training.schedule import CLUSTERING, Stage


class Relabeller:
    """Fits rounds of labels and keeps what it fitted; a plain object, which the service wraps in an actor."""

    def __init__(self, config: ClusterConfig, run: RunFolder, *, seed: int) -> None:
        self._config, self._run, self._seed = config, run, seed
        self._parts: dict[int, Keypoints] = {}

    def add(self, part: int, keypoints: Keypoints) -> None:
        """Take the part of the sample that one rank has."""
        self._parts[part] = keypoints

    def make(self, stage: Stage, number: int, previous: int | None, parts: int) -> bool:
        """Fit round `number`, which follows round `previous`, and write it; False when parts are lacking: it was restarted."""
        if len(self._parts) < parts:
            return False
        sample = Keypoints.joined([self._parts.pop(part) for part in range(parts)])
        sample = replace(sample, descriptors=sample.descriptors.astype(np.float32))
        before = None if previous is None else self._labelling(previous).clusters
        with telemetry.timing(PART_SECONDS, part="fit"):
            kind = CLUSTERING[stage]
            labelling = fit(sample, self._config, kind, number=number, seed=self._seed, previous=before)
        labels.write_labelling(self._run.labels, number, labelling.arrays())
        return True

    def __call__(
        self, stage: Stage, number: int, previous: int | None, keypoints: Keypoints
    ) -> Callable[[], Labelling]:
        """All of it at once, for a training rank that is alone."""
        self.add(0, keypoints)
        self.make(stage, number, previous, 1)
        return partial(self._labelling, number)

    def _labelling(self, number: int) -> Labelling:
        return Labelling.from_arrays(labels.read_labelling(self._run.labels, number))


class RelabelClient:
    """What a training rank sees of the service."""

    def __init__(self, name: str, labels: str) -> None:
        """`labels` is the folder of rounds."""
        self._service: Any = ray.get_actor(name, NAMESPACE)
        self._labels = labels

    def __call__(
        self, stage: Stage, number: int, previous: int | None, keypoints: Keypoints
    ) -> Callable[[], Labelling]:
        """Give this rank's part of the sample, and let all of it be fitted; every rank calls this, and what it returns.

        That raises the UserError of the service; what else goes wrong there is Ray's, after which the workers start again.
        """
        self._send(keypoints)
        making = self._make(stage, number, previous)
        return lambda: self._made(making, stage, number, previous, keypoints)

    def _send(self, keypoints: Keypoints) -> None:
        with telemetry.timing(PART_SECONDS, part="send"):
            _answer(self._service.add.remote(rank(), keypoints))
        barrier()

    def _make(self, stage: Stage, number: int, previous: int | None) -> Any:
        return self._service.make.remote(stage, number, previous, world_size()) if rank() == 0 else None

    def _made(self, making: Any, stage: Stage, number: int, previous: int | None, keypoints: Keypoints) -> Labelling:
        while not of_first(rank() == 0 and _answer(making)):
            self._send(keypoints)
            making = self._make(stage, number, previous)
        with telemetry.timing(PART_SECONDS, part="pull"):
            return Labelling.from_arrays(labels.read_labelling(self._labels, number))


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
    options = {**role.options(), "name": name, "namespace": NAMESPACE, "max_restarts": -1, "max_task_retries": -1}
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

    def make(self, stage: Stage, number: int, previous: int | None, parts: int) -> bool:
        return self._relabeller.make(stage, number, previous, parts)
