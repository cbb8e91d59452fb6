"""The wait of processes that Ray starts for us, and starts again: Ray goes on with it for ever and never mentions it."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from uldscale.errors import IncompleteError
from uldscale.runtime.roles import Role
from uldscale.runtime.waiting import Wait

POLL_SECONDS = 1.0


@contextmanager
def watching_placement(
    name: str, role: Role, count: int, limit: float, waiting: Callable[[], bool | None]
) -> Iterator[None]:
    """Tell for as long as the block runs when `count` processes of a role are `waiting` for a place; None says: that is over for good.

    Raises IncompleteError in the block's place when they wait for more than `limit` seconds.
    """
    watch = _Watch(Wait(name, role, limit), count, waiting)
    thread = threading.Thread(target=watch.run, name=f"placement of {name}", daemon=True)
    thread.start()
    try:
        yield
    except KeyboardInterrupt:
        if watch.failure:
            raise watch.failure from None
        raise
    finally:
        watch.ended.set()


class _Watch:
    def __init__(self, wait: Wait, count: int, waiting: Callable[[], bool | None]) -> None:
        self.ended = threading.Event()
        self.failure: IncompleteError | None = None
        self._wait, self._count, self._waiting = wait, count, waiting

    def run(self) -> None:
        while not self.ended.wait(POLL_SECONDS):
            waits = self._waiting()
            if waits is None:
                break
            if waits:
                self._still()
            else:
                self._wait.over()
        self._wait.over()

    def _still(self) -> None:
        try:
            self._wait.still(self._count)
        except IncompleteError as failure:
            self.failure = failure
            self.ended.set()
            # The block sits in a call of Ray, which only a signal ends.
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
