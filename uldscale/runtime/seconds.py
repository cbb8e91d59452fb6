"""Where the time of a piece of work goes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Seconds:
    """Seconds on the host's clock, booked by part."""

    def __init__(self) -> None:
        self._booked: dict[str, float] = {}

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        """Books the seconds of a block on a part."""
        start = time.monotonic()
        yield
        self.book(part, time.monotonic() - start)

    def book(self, part: str, seconds: float) -> None:
        """Books seconds on a part."""
        self._booked[part] = self._booked.get(part, 0.0) + seconds

    def take(self) -> dict[str, float]:
        """What was booked since the last call, by part."""
        taken, self._booked = self._booked, {}
        return taken
