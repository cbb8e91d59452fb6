"""What other processes say of their stages, on the standard error of this one."""

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from uldscale.runtime import progress
from uldscale.runtime.beside import repeating
from uldscale.runtime.progress import TICK_SECONDS, Standing
from uldscale.runtime.screen import LINE_SECONDS, screen


@contextmanager
def following(title: str, folder: str, stages: Collection[str]) -> Iterator[None]:
    """Show some stages, whose processes write into `folder`, for as long as the block runs; `title` is what they are together."""
    follower = _Follower(title, folder, stages)
    with repeating(follower.look, TICK_SECONDS, "following", last=follower.end):
        yield


class _Follower:
    def __init__(self, title: str, folder: str, stages: Collection[str]) -> None:
        self._title, self._folder = title, folder
        self._shown = dict.fromkeys(stages, time.time())
        self._open: dict[str, Standing] = {}
        self._heard = self._said = time.monotonic()

    def end(self) -> None:
        """Show the last of all."""
        self.look()
        for standing in list(self._open.values()):
            screen().show(standing, last=True)

    def look(self) -> None:
        """Show what is new, and tell when nothing has been for long."""
        for standing in progress.read(self._folder):
            if standing.time > self._shown.get(standing.stage, float("inf")):
                self._shown[standing.stage] = standing.time
                self._open[standing.stage] = standing
                screen().show(standing, last=not standing.active)
                if not standing.active:
                    del self._open[standing.stage]
                self._heard = self._said = time.monotonic()
        now = time.monotonic()
        if now - self._said >= LINE_SECONDS:
            self._said = now
            screen().say(f"{self._title}: no word of its workers for {now - self._heard:.0f} s")
