"""Standard error of this process: bars where it is a terminal, plain lines elsewhere."""

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Live

from uldscale.runtime.beside import repeating

if TYPE_CHECKING:
    from uldscale.runtime.standing import Standing

LINE_SECONDS = 10.0


LEVEL = "ULDSCALE_LOG_LEVEL"
"""Variable that says how much is said here: debug, with what Ray and other libraries say; info; warning or error, with those alone."""


class Screen(Protocol):
    """Shows stages, of which one may go on within another."""

    def show(self, standing: "Standing", *, last: bool) -> None:
        """Where a stage stands now; `last` when it ends."""

    def say(self, text: str) -> None:
        """A line about something else."""


def screen() -> Screen:
    """The one of this process."""
    if level() > logging.INFO:
        return _nothing()
    return _bars() if sys.stderr.isatty() else _lines()


def level() -> int:
    """What is said at least, as a level of `logging`."""
    return logging.getLevelNamesMapping().get(os.environ.get(LEVEL, "info").upper(), logging.INFO)


def warn(text: str) -> None:
    """A line about something that a user may want to change."""
    insist(f"warning: {text}")


def insist(line: str) -> None:
    """Say a line also where nothing but warnings is said."""
    if level() <= logging.WARNING:
        (_lines() if level() == logging.WARNING else screen()).say(line)


@contextmanager
def patience(text: str) -> Iterator[None]:
    """Say a line at once, and every ten seconds how long the block has taken: for what tells nothing itself."""
    start = time.monotonic()
    screen().say(text)
    with repeating(lambda: screen().say(f"{text}: {time.monotonic() - start:.0f} s"), LINE_SECONDS, "patience"):
        yield


class Nothing:
    """Shows nothing."""

    def show(self, standing: "Standing", *, last: bool) -> None:
        """Not shown."""

    def say(self, text: str) -> None:
        """Not said."""


class Lines:
    """A line of a stage when it begins, every ten seconds, and at its end."""

    def __init__(self) -> None:
        self._said: dict[str, float] = {}

    def show(self, standing: "Standing", *, last: bool) -> None:
        """Write a line when it is time for one."""
        if last or standing.seconds - self._said.get(standing.stage, -LINE_SECONDS) >= LINE_SECONDS:
            self._said[standing.stage] = standing.seconds
            self.say(standing.line())
        if last:
            del self._said[standing.stage]

    def say(self, text: str) -> None:
        """Write it."""
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


class Bars:
    """A bar a stage; those that have ended stay above those under way."""

    def __init__(self) -> None:
        self._live: Live | None = None
        self._tasks: dict[str, TaskID] = {}

    def show(self, standing: "Standing", *, last: bool) -> None:
        """Move the bar of a stage."""
        if self._live is None:
            self._live = _live()
            self._live.start()
        if standing.stage not in self._tasks:
            self._tasks[standing.stage] = self._live.add_task(standing.stage, total=standing.total, rate="", note="")
        self._live.update(
            self._tasks[standing.stage], completed=standing.done, rate=f"{standing.rate:.3g}/s", note=standing.note
        )
        if last:
            self._live.stop_task(self._tasks.pop(standing.stage))
        if not self._tasks:
            self._live.stop()
            self._live = None

    def say(self, text: str) -> None:
        """Write it above the bars."""
        (self._live.console if self._live else Console(stderr=True)).print(text, highlight=False, soft_wrap=True)


@cache
def _nothing() -> Nothing:
    return Nothing()


@cache
def _lines() -> Lines:
    return Lines()


@cache
def _bars() -> Bars:
    return Bars()


def _live() -> Live:
    return Live(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
    )
