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
from uldscale.diffusion.extractor import FeatureConfig
from uldscale.errors import IncompleteError, UserError
from uldscale.labels import Labels
from uldscale.models.network import Network
from uldscale.runs import RunFolder
from uldscale.runtime.engine import Engine, make_engine, read_weights
from uldscale.runtime.ranks import barrier, gather, of_first, rank, world_size
from uldscale.store.features import FeatureStore
from uldscale.store.reader import FeatureReader
from uldscale.training import checkpoints, outcome
from uldscale.training.batches import Batches
from uldscale.training.checkpoints import Position
from uldscale.training.fence import Fence
from uldscale.training.journal import Journal
from uldscale.training.objectives import Losses, Objective
from uldscale.training.rounds import Begun, Fit, Rounds
from uldscale.training.schedule import Stage, TrainConfig

STOPPED = "interrupted; the same command goes on from here"
"""What a run says that was asked to stop."""


def _never() -> bool:
    return False


@dataclass
class Training:
    """One rank's view of a training run."""

    config: TrainConfig
    features: FeatureConfig
    run: RunFolder
    store: FeatureStore
    rows: NDArray[np.int64]
    """Training rows of the store, of all ranks."""
    yaw: NDArray[np.floating]
    """(N,) of all rows, see `Rounds`."""
    fit: Fit
    border: float
    """Share of the crop on each side that lies outside the object."""
    device: torch.device
    shown: bool = True
    """Whether progress is shown by this process."""
    stop: Callable[[], bool] = _never
    """Whether somebody wants this rank to write a checkpoint and end."""
    preempted: Callable[[], bool] = _never
    """Whether a checkpoint is needed soon; called by every rank at the same time, with one answer."""
    network: Network = field(init=False)
    labels: Labels | None = field(init=False, default=None)
    begun: Begun | None = field(init=False, default=None)
    """The round that is being fitted while training goes on."""

    def __post_init__(self) -> None:
        torch.manual_seed(self.config.seed)
        scales = {name: torch.from_numpy(steps) for name, steps in self.store.scales().items()}
        self.network = Network(scales, len(self.store.spec.timesteps), self.config.network).to(self.device)
        self.reader = FeatureReader(self.store)
        self.batches = Batches(
            self.store, self.rows, batch=self.config.batch, latent=self.config.network.vae.latent, seed=self.config.seed,
            rank=rank(), world=world_size(), pinned=self.device.type == "cuda",
        )  # fmt: skip
        self.journal = Journal(self.run, self.shown)
        self.fence = Fence.take(files.join(self.run.root, "fence")) if rank() == 0 else None
        self.rounds = Rounds(
            self.config, self.run, self.network, self.reader, self.rows, self.store.spec.num_rows, self.yaw, self.border, self.fit,
            self.journal, self.fence,
        )  # fmt: skip

    def run_all(self) -> None:
        """What is missing of each stage, from its last checkpoint or else from the end of its parent; a detector that was lost, too."""
        for stage in self.config.stages:
            found = self._last_of(stage)
            if found is None:
                self._run_stage(self._begin(stage), None)
            elif found.step < self.config.of(stage).steps:
                self._restore(found)
                self._run_stage(found, self._folder(found))
            elif not of_first(outcome.is_kept(stage, self.run)):
                self._restore(found)
                self._keep(stage)
                barrier()

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
        if before := self.config.parent(stage):
            parent = self._last_of(before)
            assert parent is not None
            self._restore(parent)
        ended = [self._last_of(other) for other in self.config.stages]
        return Position(stage, 0, max((position.round for position in ended if position), default=-1))

    def _restore(self, position: Position) -> None:
        weights = read_weights(self._folder(position))
        self.network.load_state_dict({name.removeprefix("network."): value for name, value in weights.items()})
        self.labels = Labels.open(self.run.labels, position.round) if position.round >= 0 else None
        self.journal.labels(position.round)

    def _run_stage(self, position: Position, checkpoint: str | None) -> None:
        """Train one stage to its end."""
        stage, settings = position.stage, self.config.of(position.stage)
        self.network.trainable(self.config.trained(stage))
        objective = Objective(self.network, stage, self.config.losses)
        engine = make_engine(objective, self.config.engine, self.config.rate(stage))
        if checkpoint:
            engine.load(checkpoint)
        with self.journal.stage(stage, position.step, settings.steps):
            for steps in self.config.stretches(stage, position.step):
                position = self._relabel_when_due(replace(position, step=steps.start))
                while position.step < steps.stop:
                    reached, stop = self._train(engine, stage, range(position.step, steps.stop))
                    position = replace(position, step=reached)
                    if reached == steps.stop:
                        position = self._end_round(position)
                    if reached == settings.steps:
                        position = self._finish(position)
                    # What a round was begun with is only here, so the last checkpoint before it is where a resumed run begins it again.
                    if self.begun is None:
                        self._save(engine, position)
                    if stop:
                        raise IncompleteError(STOPPED)

    def _relabel_when_due(self, position: Position) -> Position:
        """A round of labels, or its beginning when training shall go on meanwhile; a stage begins with labels of its own."""
        every = self.config.of(position.stage).relabel_every
        if every is None or position.step % every:
            return position
        self._begin_round(position)
        return position if position.step and self.config.overlap else self._end_round(position)

    def _begin_round(self, position: Position) -> None:
        with self.journal.seconds.of("relabel"):
            self.network.eval()
            self.begun = self.rounds.begin(position.stage, position.round + 1, self.labels)
            self.network.train()

    def _end_round(self, position: Position) -> Position:
        """Take the labels of the round that was begun, if there is one."""
        if self.begun is None:
            return position
        with self.journal.seconds.of("relabel"):
            self.labels, self.begun = self.rounds.end(self.begun), None
        self.journal.labels(position.round + 1)
        return replace(position, round=position.round + 1)

    def _train(self, engine: Engine, stage: Stage, steps: range) -> tuple[int, bool]:
        """Train some steps, or fewer when a checkpoint is wanted earlier; returns how many are done, and whether to stop then."""
        batches = self.batches(stage, steps, self.labels)
        clock, read, logged = time.monotonic(), 0, steps.start
        for step in steps:
            with self.journal.seconds.of("data"):
                batch = next(batches)
            losses = engine(batch.to(self.device))
            engine.step(losses["loss"])
            read += batch.nbytes
            self.journal.advance(1)
            # Before each checkpoint, too: none is written of a network that is lost.
            if (step + 1) % self.config.log_every == 0 or step + 1 == steps.stop:
                stop = self._log(engine, stage, step + 1, losses, (time.monotonic() - clock) / (step + 1 - logged))
                self.journal.times(stage, time.monotonic() - clock, read)
                clock, read, logged = time.monotonic(), 0, step + 1
                if stop or self.preempted():
                    return step + 1, stop
        return steps.stop, False

    def _log(self, engine: Engine, stage: Stage, step: int, losses: Losses, seconds: float) -> bool:
        """Log the losses of the global batch, and say whether any rank wants to stop; every rank calls this.

        Raises UserError when a loss or the gradient is not a number.
        """
        norm = float(engine.gradient_norm)
        own = torch.stack([*losses.values(), *losses["loss"].new_tensor([norm, float(self.stop())])]).detach()
        *means, _, wish = found = gather(own[None]).mean(0).tolist()
        values = dict(zip(losses, means, strict=True))
        self.journal.step(stage, step, seconds, values, norm, self.config.rate(stage)(step - 1))
        if not np.isfinite(found).all():
            lost = next((f"loss {name!r}" for name, mean in values.items() if not np.isfinite(mean)), "the gradient")
            raise UserError(
                f"training has diverged: {lost} of stage {stage} is not a number in step {step}; lower "
                f"train.{stage}.learning_rate (now {self.config.of(stage).learning_rate:g}), or set train.engine.bf16=false, and "
                "start a new run"
            )
        return bool(wish)

    def _finish(self, position: Position) -> Position:
        """At a stage's end: labels from the final weights, and the method as a detector of its own."""
        if position.stage is Stage.BOOTSTRAP:
            return position
        self._begin_round(position)
        position = self._end_round(position)
        self._keep(position.stage)
        return position

    def _keep(self, stage: Stage) -> None:
        assert self.labels is not None
        if rank() == 0:
            outcome.keep(
                stage, self.network, self.labels, self.run, config=self.config, features=self.features, store=self.store,
                border=self.border,
            )  # fmt: skip
            self.network.train()

    def _save(self, engine: Engine, position: Position) -> None:
        start = time.monotonic()
        if self.fence:
            self.fence.require()
        engine.save(self._folder(position))
        barrier()
        if self.fence:
            self.fence.require()
            checkpoints.commit(self.run.checkpoints, position)
        barrier()
        self.journal.saved(time.monotonic() - start, engine.checkpoint_bytes)
