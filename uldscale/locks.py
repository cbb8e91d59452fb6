"""Locks of a run: who is at work on its folder. A lock ends with the process that holds it, however that ends."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from uldscale import files
from uldscale.errors import IncompleteError

WORK, EVALUATION = "lock", "evaluate.lock"
"""Of the process that extracts or trains, and of the one that evaluates or reports."""
LOOK_SECONDS = 0.5
"""How long a lock is waited for that somebody may only look at."""


@contextmanager
def locked(root: str, name: str = WORK) -> Iterator[None]:
    """No other process does meanwhile what the lock stands for.

    Raises IncompleteError when one does, on this machine or, where the disk knows locks of other machines, on another.
    """
    try:
        # `status` looks whether somebody has it by taking it for a moment.
        held = FileLock(files.join(root, name)).acquire(timeout=LOOK_SECONDS)
    except Timeout:
        raise IncompleteError(
            f"another process is at work on {root} (see `uldscale status {root}`); run the same command again when "
            "it has ended, or set another `name`"
        ) from None
    with held:
        yield


def at_work(root: str) -> bool | None:
    """Whether a process extracts, trains or evaluates this run, as far as this machine's disk tells; None: it does not tell.

    A process that was killed holds no lock any more, whatever its last words were.
    """
    try:
        return any(_is_held(files.join(root, name)) for name in (WORK, EVALUATION))
    except OSError:
        return None


def _is_held(path: str) -> bool:
    """Raises OSError where no lock can be taken: in a bucket, or on a disk that may only be read."""
    if not os.path.exists(path):
        if "://" in path:
            raise OSError(errno.ENOTSUP, "no locks there")
        return False
    try:
        with FileLock(path).acquire(blocking=False):
            return False
    except Timeout:
        return True
