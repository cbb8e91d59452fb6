"""What a training rank tells of itself: progress, the log of the run, and series; what is the same on all ranks the first one tells."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

from uldscale.runs import RunFolder
from uldscale.runtime import telemetry
from uldscale.runtime.progress import Progress
from uldscale.runtime.ranks import WAITED, rank
from uldscale.runtime.seconds import Seconds
from uldscale.training.stages import RELABEL, Stage

__all__ = ["RELABEL", "Journal"]


@dataclass
class Journal:
    """The journal of one rank; `shown`: on standard error, too."""

    run: RunFolder
    shown: bool
    seconds: Seconds = field(default_factory=Seconds, init=False)
    """Of the stage, by part: data, relabel, checkpoint."""
    _progress: Progress | None = field(default=None, init=False)

    @contextmanager
    def stage(self, stage: Stage, done: int, total: int) -> Iterator[None]:
        """Tell how far a stage of training is for as long as the block runs."""
        with self._of_first_rank(stage.value, total, done) as self._progress:
            yield
        self._progress = None

    def round(self, images: int) -> AbstractContextManager[Progress | None]:
        """Tell how far the description of some images for a round of labels is."""
        return self._of_first_rank(RELABEL, images)

    def advance(self, steps: int) -> None:
        """So many more steps of the stage are done."""
        if self._progress:
            self._progress.advance(steps)

    def times(self, stage: Stage, seconds: float, read_bytes: int) -> None:
        """`seconds` of training are over, in which batches of `read_bytes` came: computing is what is not booked otherwise."""
        outside = self.seconds.take()
        within = {"data": outside.pop("data", 0.0), **WAITED.take()}
        parts = {"compute": max(0.0, seconds - sum(within.values())), **within, **outside}
        if rank() == 0:
            shown = {part: round(value, 4) for part, value in parts.items()}
            self.run.log(event="parts", stage=stage.value, seconds=shown, read_bytes=read_bytes)
        for part, value in parts.items():
            telemetry.record("uldscale_train_seconds_total", value, stage=stage.value, part=part)
        telemetry.record("uldscale_train_read_bytes_total", read_bytes, stage=stage.value)

    def step(
        self, stage: Stage, step: int, seconds: float, losses: Mapping[str, float], norm: float, rate: float
    ) -> None:
        """Losses of the global batch of a step, seconds a step, norm of the gradient, learning rate."""
        if rank() > 0:
            return
        values = {name: round(loss, 6) for name, loss in losses.items()}
        self.run.log(
            event="step", stage=stage.value, step=step, step_seconds=round(seconds, 4),
            optimizer={"gradient_norm": round(norm, 6), "learning_rate": rate}, **values,
        )  # fmt: skip
        telemetry.record("uldscale_train_step_seconds", seconds, stage=stage.value)
        telemetry.record("uldscale_train_gradient_norm", norm, stage=stage.value)
        telemetry.record("uldscale_train_learning_rate", rate, stage=stage.value)
        for name, value in values.items():
            telemetry.record("uldscale_train_loss", value, stage=stage.value, loss=name)
        if self._progress:
            self._progress.advance(0, f"loss {values['loss']:.4g}")

    def labels(self, number: int) -> None:
        """The round of labels that this rank has now, -1 without."""
        telemetry.record("uldscale_label_version", number, rank=str(rank()))

    def saved(self, seconds: float, size: int) -> None:
        """A checkpoint of `size` bytes was written."""
        self.seconds.book("checkpoint", seconds)
        if rank() == 0:
            telemetry.record("uldscale_checkpoint_seconds", seconds)
            telemetry.record("uldscale_checkpoint_bytes", size)

    def _of_first_rank(self, name: str, total: int, done: int = 0) -> AbstractContextManager[Progress | None]:
        if rank() > 0:
            return nullcontext()
        return Progress(name, total, self.run.progress, done=done, shown=self.shown)
