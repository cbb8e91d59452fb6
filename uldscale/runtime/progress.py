"""How far a stage is and how long it will take: a bar on a terminal, one plain line every ten seconds elsewhere."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

LINE_SECONDS = 10.0


class Progress:
    """Progress of `total` things under a title, on standard error, for as long as the block runs."""

    def __init__(self, title: str, total: int) -> None:
        self._title, self._total, self._done = title, total, 0
        self._start = self._last_line = time.monotonic()
        self._bar = _bar() if sys.stderr.isatty() else None

    def __enter__(self) -> Self:
        self._start = self._last_line = time.monotonic()
        if self._bar:
            self._bar.start()
            self._task = self._bar.add_task(self._title, total=self._total, rate="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
        else:
            self._write_line()

    def advance(self, count: int = 1) -> None:
        """`count` more are done."""
        self._done += count
        if self._bar:
            self._bar.update(self._task, advance=count, rate=f"{self._rate():.3g}/s")
        elif time.monotonic() - self._last_line >= LINE_SECONDS:
            self._write_line()

    def _write_line(self) -> None:
        self._last_line = time.monotonic()
        sys.stderr.write(self._line() + "\n")
        sys.stderr.flush()

    def _line(self) -> str:
        share = 100 * self._done / max(1, self._total)
        line = f"{self._title}: {self._done}/{self._total} ({share:.0f} %), {self._rate():.3g}/s"
        if self._done >= self._total:
            return f"{line}, {_clock(time.monotonic() - self._start)} in all"
        return f"{line}, {_clock((self._total - self._done) / self._rate())} left" if self._done else line

    def _rate(self) -> float:
        return self._done / max(1e-9, time.monotonic() - self._start)


def _bar() -> Bar:
    return Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
