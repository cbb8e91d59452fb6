"""What a thread does while a block runs."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def _nothing() -> None:
    pass


@contextmanager
def repeating(
    do: Callable[[], None], seconds: float, name: str, *, last: Callable[[], None] = _nothing
) -> Iterator[None]:
    """Call `do` every so many seconds beside the block, and `last` at its end; the thread has ended when the block has."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(seconds):
            do()
        last()

    thread = threading.Thread(target=repeat, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
