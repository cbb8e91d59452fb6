"""How far a stage is and how long it will take: on standard error, in Prometheus, and in a small file that others read.

A terminal gets a bar, everything else a line at the beginning and every ten seconds, also while nothing moves.
"""

import shutil
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from types import TracebackType
from typing import Self

from uldscale import files
from uldscale.runtime import telemetry
from uldscale.runtime.screen import screen

TICK_SECONDS = 0.5
FILE_SECONDS = 2.0
"""Between two writes of the file."""


@dataclass(frozen=True)
class Standing:
    """Where a stage stands, as the process that does it says."""

    stage: str
    total: int
    done: int = 0
    begun: int = 0
    """How many were done when the process took it up."""
    seconds: float = 0.0
    """Since then."""
    active: bool = True
    note: str = ""
    """What else there is to say, such as the loss."""
    time: float = 0.0
    """When it was said, Unix seconds."""

    @property
    def rate(self) -> float:
        """A second."""
        return (self.done - self.begun) / max(1e-9, self.seconds)

    @property
    def left(self) -> float | None:
        """Seconds until the end at this rate; None where nothing is done yet."""
        return (self.total - self.done) / self.rate if self.done > self.begun else None

    def line(self) -> str:
        """All of it in words."""
        share = 100 * self.done / max(1, self.total)
        parts = [f"{self.stage}: {self.done}/{self.total} ({share:.0f} %)"]
        if self.done > self.begun:
            parts.append(f"{self.rate:.3g}/s")
        if self.done >= self.total:
            parts.append(f"{clock(self.seconds)} in all")
        elif self.left is not None:
            parts.append(f"{clock(self.left)} left")
        return ", ".join([*parts, self.note] if self.note else parts)


class Progress:
    """Progress of `total` things of a stage for as long as the block runs.

    `done` of them are done before. `folder` takes `<stage>.json`, for `follow` and `read`; `shown` says whether standard error
    hears of it.
    """

    def __init__(self, stage: str, total: int, folder: str | None = None, *, done: int = 0, shown: bool = True) -> None:
        self._standing = Standing(stage, total, done, begun=done)
        self._folder, self._shown = folder, shown
        self._start = self._written = 0.0
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        self._start = time.monotonic()
        self._tell()
        self._ticker = threading.Thread(target=self._tick, name="progress", daemon=True)
        self._ticker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._ticker.join()
        self._standing = replace(self._standing, active=False)
        self._tell(last=True)

    def advance(self, count: int = 1, note: str = "") -> None:
        """`count` more are done."""
        self._standing = replace(self._standing, done=self._standing.done + count, note=note or self._standing.note)

    def _tick(self) -> None:
        while not self._ended.wait(TICK_SECONDS):
            # Of a full disk the stage itself tells, when it meets it.
            with suppress(OSError):
                self._tell()

    def _tell(self, *, last: bool = False) -> None:
        now = time.monotonic()
        standing = replace(self._standing, seconds=now - self._start, time=time.time())
        if self._shown:
            screen().show(standing, last=last)
        _record(standing)
        if self._folder and (last or now - self._written >= FILE_SECONDS):
            self._written = now
            files.write_json(files.join(self._folder, f"{standing.stage}.json"), asdict(standing))
            _record_disk(self._folder)


def read(folder: str) -> list[Standing]:
    """Standings of all stages that said something, in the order in which they did so last."""
    names = [name for name in files.names(folder) if name.endswith(".json")]
    found = [Standing(**files.read_json(files.join(folder, name))) for name in names]
    return sorted(found, key=lambda standing: standing.time)


def _record(standing: Standing) -> None:
    stage = standing.stage
    telemetry.record("uldscale_stage_active", float(standing.active), stage=stage)
    telemetry.record("uldscale_stage_done", standing.done, stage=stage)
    telemetry.record("uldscale_stage_size", standing.total, stage=stage)
    if standing.left is not None:
        telemetry.record("uldscale_stage_left_seconds", standing.left, stage=stage)


def _record_disk(folder: str) -> None:
    usage = shutil.disk_usage(folder)
    telemetry.record("uldscale_output_free_bytes", usage.free)
    telemetry.record("uldscale_output_size_bytes", usage.total)


def clock(seconds: float) -> str:
    """Seconds as 1:02:03, or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
