"""Memory that all threads of a process share."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Budget:
    """So much of something; whoever wants some waits until it is free, in order, so that large wishes come true, too."""

    def __init__(self, amount: int) -> None:
        self._free = amount
        self._turn = threading.Lock()
        self._changed = threading.Condition()

    @contextmanager
    def share(self, amount: int) -> Iterator[None]:
        """Have `amount` for the time of a block; it is at most that of all. Not to be entered again inside of it."""
        with self._turn, self._changed:
            self._changed.wait_for(lambda: self._free >= amount)
            self._free -= amount
        try:
            yield
        finally:
            with self._changed:
                self._free += amount
                self._changed.notify()
