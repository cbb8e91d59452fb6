"""How far a stage is and how long it will take: on standard error, in Prometheus, and in a small file that others read.

A terminal gets a bar, everything else a line at the beginning and every ten seconds, also while nothing moves.
"""

import shutil
import threading
import time
from contextlib import suppress
from dataclasses import asdict, replace
from types import TracebackType
from typing import Self

from uldscale import files
from uldscale.runtime import telemetry
from uldscale.runtime.screen import screen
from uldscale.runtime.standing import Standing, clock, read

__all__ = ["Progress", "Standing", "clock", "read"]

TICK_SECONDS = 0.5
FILE_SECONDS = 2.0
"""Between two writes of the file."""


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
