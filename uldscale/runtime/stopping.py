"""How a run is asked to stop: by Ctrl-C, SIGTERM (schedulers, `ray job stop`), or a notice that its node will go away.

The process that is told leaves a file, at which the training workers look; they write a checkpoint first.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

import ray.train

from uldscale import files

GRACE_SECONDS = 1.5
"""Between an interrupt and the end of the process; `ray job stop` sends SIGKILL after three seconds."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Stopping:
    """The request to stop, as a file that all machines see."""

    path: str

    def wanted(self) -> bool:
        """Whether the loop shall write a checkpoint and stop."""
        return files.exists(self.path)

    @contextmanager
    def at_interrupts(self) -> Iterator[None]:
        """The first Ctrl-C or SIGTERM in the block asks; the next, or a while without an end, is a KeyboardInterrupt."""
        files.remove(self.path)
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        timer = threading.Timer(GRACE_SECONDS, os.kill, (os.getpid(), signal.SIGTERM))
        timer.daemon = True

        def ask(number: int, frame: FrameType | None) -> None:
            for each in _SIGNALS:
                signal.signal(each, signal.default_int_handler)
            files.write_bytes(self.path, b"")
            timer.start()

        for number in _SIGNALS:
            signal.signal(number, ask)
        try:
            yield
        finally:
            timer.cancel()
            for number, handler in before.items():
                signal.signal(number, handler)
            files.remove(self.path)


def preempted() -> bool:
    """Whether a node under a training worker will go away soon; every worker of Ray Train calls this, and gets the same answer."""
    return ray.train.get_preemption_info() is not None
