"""Work on blocks of rows in every thread that this process may use, with results that do not hang on their number.

Blocks have a fixed size, and BLAS has one thread in each of ours: which one takes a block then changes no bit of it.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Lock, local
from typing import TypeVar

from threadpoolctl import ThreadpoolController

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

ROWS = 4096
"""Of a block: 128 numbers in float32 each fill the 2 MB of cache that a core has."""

_limits = Lock()  # They are the process's: two that set and restore them at once would leave the lower one.
_within = local()


def blocks(rows: int) -> list[slice]:
    """Slices of `ROWS` rows, the last one shorter."""
    return [slice(start, min(start + ROWS, rows)) for start in range(0, rows, ROWS)]


def in_threads(work: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
    """Results of `work` in the order of the items; within such work, those of more of it come from its own thread.

    As many threads as BLAS may use: that is the cores of this process, or what OMP_NUM_THREADS or threadpoolctl leave of them.
    """
    if getattr(_within, "work", False):
        return [work(item) for item in items]
    with _limits:
        threads = max((library["num_threads"] for library in _blas().info()), default=1)
        with _blas().limit(limits=1):
            # Threads take a millisecond to start, which is more than a block of a few rows does.
            if min(threads, len(items)) < 2:
                return _alone(work, items)
            with ThreadPoolExecutor(threads, initializer=_enter) as pool:
                return list(pool.map(work, items))


def _alone(work: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
    _within.work = True
    try:
        return [work(item) for item in items]
    finally:
        _within.work = False


def _enter() -> None:
    _within.work = True


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")  # Looking for the libraries takes milliseconds.
