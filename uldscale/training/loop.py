"""The training loop: every stage of the schedule, with rounds of pseudo-labels and checkpoints, on one rank of any number.

Laws: n steps, a kill and m steps give what n + m steps give. A round of labels is made from the same weights by whoever makes it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from uldscale import files
from uldscale.clustering.two_stage import Clustering, Clusters
from uldscale.detector import DetectorConfig, LandmarkDetector
from uldscale.diffusion.extractor import FeatureConfig
from uldscale.errors import UserError
from uldscale.labels import LabelTable
from uldscale.models.network import Network
from uldscale.runs import RunFolder
from uldscale.runtime import telemetry
from uldscale.runtime.cluster import barrier, gather, rank, world_size
from uldscale.runtime.engine import Engine, make_engine, read_weights
from uldscale.store.features import FeatureStore
from uldscale.store.reader import FeatureReader
from uldscale.store.sampling import share
from uldscale.training import checkpoints
from uldscale.training.anchors import find_anchors
from uldscale.training.batches import Batches, DenseLabels
from uldscale.training.checkpoints import Position
from uldscale.training.description import Keypoints, describe
from uldscale.training.objectives import Losses, Objective
from uldscale.training.schedule import CLUSTERING, PARENT, TRAINED_PARTS, Stage, TrainConfig

Relabel = Callable[[Stage, int, int | None, Keypoints], LabelTable]
"""Turns (stage, round, the round before, this rank's keypoints) into the labels of all images; called by every rank, returns the
same to all."""


@dataclass
class Training:
    """One rank's view of a training run."""

    config: TrainConfig
    features: FeatureConfig
    run: RunFolder
    store: FeatureStore
    rows: NDArray[np.int64]
    """Training rows of the store, of all ranks."""
    relabel: Relabel
    border: float
    """Share of the crop on each side that lies outside the object."""
    device: torch.device
    network: Network = field(init=False)
    labels: LabelTable | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        torch.manual_seed(self.config.seed)
        scales = {name: torch.from_numpy(steps) for name, steps in self.store.scales().items()}
        self.network = Network(scales, len(self.store.spec.timesteps), self.config.network).to(self.device)
        self.reader = FeatureReader(self.store)
        self.batches = Batches(
            self.store, self.rows, batch=self.config.batch, latent=self.config.network.vae.latent, seed=self.config.seed,
            rank=rank(), world=world_size(),
        )  # fmt: skip

    def run_all(self) -> None:
        """What is missing of each stage, from its last checkpoint or else from the end of its parent."""
        for stage in self.config.stages:
            found = self._last_of(stage)
            if found is None:
                self._run_stage(self._begin(stage), None)
            elif found.step < self.config.of(stage).steps:
                self._restore(found)
                self._run_stage(found, self._folder(found))

    def _last_of(self, stage: Stage) -> Position | None:
        """Where a stage stands, as the first rank sees it: the list of a shared folder may be old on another machine."""
        found = checkpoints.last_of(self.run.checkpoints, stage)
        seen = [-1, -1] if found is None else [found.step, found.round]
        step, number = gather(torch.tensor([seen], device=self.device))[0].tolist()
        return None if step < 0 else Position(stage, step, number)

    def _folder(self, position: Position) -> str:
        return files.join(self.run.checkpoints, position.name)

    def _begin(self, stage: Stage) -> Position:
        """The start of a stage, with the weights and labels of its parent; its rounds follow those of all stages before."""
        if stage in PARENT:
            parent = self._last_of(PARENT[stage])
            assert parent is not None
            self._restore(parent)
        ended = [self._last_of(other) for other in self.config.stages]
        return Position(stage, 0, max((position.round for position in ended if position), default=-1))

    def _restore(self, position: Position) -> None:
        weights = read_weights(self._folder(position))
        self.network.load_state_dict({name.removeprefix("network."): value for name, value in weights.items()})
        self.labels = LabelTable.read(self.run.labels, position.round) if position.round >= 0 else None

    def _run_stage(self, position: Position, checkpoint: str | None) -> None:
        """Train one stage to its end."""
        stage, settings = position.stage, self.config.of(position.stage)
        self.network.trainable(TRAINED_PARTS[stage])
        objective = Objective(self.network, stage, self.config.losses)
        engine = make_engine(objective, self.config.engine, self.config.rate(stage))
        if checkpoint:
            engine.load(checkpoint)
        for steps in self._stretches(stage, position.step):
            position = self._relabel_when_due(replace(position, step=steps.start))
            self._train(engine, stage, steps)
            position = replace(position, step=steps.stop)
            if steps.stop == settings.steps:
                position = self._finish(position)
            self._save(engine, position)

    def _stretches(self, stage: Stage, start: int) -> list[range]:
        """Runs of steps between two moments at which something else happens: a round of labels, a checkpoint, the end."""
        settings = self.config.of(stage)
        cuts = {start, settings.steps}
        for every in (self.config.checkpoint_every, settings.relabel_every):
            cuts |= set(range(0, settings.steps, every)) if every else set()
        ordered = sorted(cut for cut in cuts if cut >= start)
        return [range(first, last) for first, last in zip(ordered, ordered[1:], strict=False)]

    def _relabel_when_due(self, position: Position) -> Position:
        every = self.config.of(position.stage).relabel_every
        if every is None or position.step % every:
            return position
        return self._make_round(position)

    def _make_round(self, position: Position) -> Position:
        self.network.eval()
        keypoints = self._describe(CLUSTERING[position.stage] is Clustering.OVER_SEGMENTED)
        self.network.train()
        previous = None if self.labels is None else self.labels.round
        self.labels = self.relabel(position.stage, position.round + 1, previous, keypoints)
        return replace(position, round=position.round + 1)

    def _describe(self, peaks: bool) -> Keypoints:
        """Keypoints of this rank's share: cells for the first round, then `peaks`, or the landmarks of the round before."""
        mine, settings = share(self.rows, rank(), world_size()), self.config.keypoints
        if self.labels is None or peaks:
            return describe(self.network, self.reader, mine, settings, self.border, dense=self.labels is None)
        labels, before = self._dense(self.labels), Clusters.from_arrays(self.labels.clusters)
        anchors = find_anchors(self.network, self.reader, self.rows, labels, before)
        return describe(self.network, self.reader, mine, settings, self.border, anchors)

    def _train(self, engine: Engine, stage: Stage, steps: range) -> None:
        labels = None if self.labels is None else self._dense(self.labels)
        clock = time.monotonic()
        for step, batch in zip(steps, self.batches(stage, steps, labels), strict=True):
            losses = engine(batch.to(self.device))
            engine.step(losses["loss"])
            # Before each checkpoint, too: none is written of a network that is lost.
            if (step + 1) % self.config.log_every == 0 or step + 1 == steps.stop:
                self._log(stage, step + 1, losses, (time.monotonic() - clock) / (step + 1 - steps.start))

    def _dense(self, labels: LabelTable) -> DenseLabels:
        return DenseLabels.of(labels, self.store.spec.num_rows)

    def _log(self, stage: Stage, step: int, losses: Losses, seconds: float) -> None:
        """Log the losses of the global batch; every rank calls this. Raises UserError when one is not a number."""
        means = gather(torch.stack(list(losses.values())).detach()[None]).mean(0).tolist()
        if not np.isfinite(means).all():
            lost = next(name for name, mean in zip(losses, means, strict=True) if not np.isfinite(mean))
            raise UserError(
                f"training has diverged: loss {lost!r} of stage {stage} is not a number in step {step}; lower "
                f"train.{stage}.learning_rate (now {self.config.of(stage).learning_rate:g}), or set train.engine.bf16=false, and "
                "start a new run"
            )
        if rank() > 0:
            return
        values = {name: round(mean, 6) for name, mean in zip(losses, means, strict=True)}
        self.run.log(event="step", stage=stage.value, step=step, step_seconds=round(seconds, 4), **values)
        telemetry.record("uldscale_train_step", step, stage=stage.value)
        telemetry.record("uldscale_train_step_seconds", seconds, stage=stage.value)
        for name, value in values.items():
            telemetry.record("uldscale_train_loss", value, stage=stage.value, loss=name)

    def _finish(self, position: Position) -> Position:
        """At a stage's end: labels from the final weights, and the method as a detector of its own."""
        if position.stage is Stage.BOOTSTRAP:
            return position
        position = self._make_round(position)
        assert self.labels is not None
        if rank() == 0:
            detector = LandmarkDetector(
                self._detector_config(),
                self.network,
                self.store.read_codec(),
                Clusters.from_arrays(self.labels.clusters),
            )
            detector.save(self.run.method(position.stage.value))
            self.network.train()
        return position

    def _detector_config(self) -> DetectorConfig:
        return DetectorConfig(
            features=self.features.updated(backbone=self.features.backbone.anchored()),
            weight_hash=self.store.spec.weight_hash,
            image_size=self.store.spec.image_size,
            network=self.config.network,
            keypoints=self.config.keypoints,
            border=self.border,
        )

    def _save(self, engine: Engine, position: Position) -> None:
        engine.save(self._folder(position))
        barrier()
        if rank() == 0:
            checkpoints.commit(self.run.checkpoints, position)
        barrier()
