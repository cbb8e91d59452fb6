"""What actors and training workers do, in this process and without Ray (`runtime.ray: false`).

A debugger reaches all of it, and nothing has to be started; nothing is replaced or tried again, either.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Self

import torch

from uldscale.runtime.actors import Worker
from uldscale.runtime.cluster import connect
from uldscale.runtime.pool import Finished, Pool, PoolRole
from uldscale.runtime.roles import Role, RuntimeConfig


class Alone:
    """As a Pool, with one worker in this process: one item after the other, and an error comes out as it is."""

    def __init__(self, make: Callable[[], Worker], role: Role | None) -> None:
        """Without a role torch keeps its threads."""
        self._make, self._role = make, role
        self._worker: Worker | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        self._worker = None

    def run(self, items: Sequence[Any]) -> Iterator[Finished]:
        """Process all items; yields them as they finish."""
        with threads(self._role.threads) if self._role else nullcontext():
            worker = self._worker = self._worker or self._set_up()
            for item in items:
                start = time.monotonic()
                result = worker.process(item)
                yield Finished(item, result, time.monotonic() - start)

    def _set_up(self) -> Worker:
        worker = self._make()
        worker.setup()
        return worker


def pool(make: Callable[[], Worker], name: PoolRole, runtime: RuntimeConfig) -> Pool | Alone:
    """Actors of Ray in a role, or this process: without Ray, or without that role. Raises what `cluster.connect` raises."""
    role = runtime.roles.get(name)
    if role is None:
        return Alone(make, None)
    connect(runtime)
    return Pool(make, name, runtime) if runtime.ray else Alone(make, role)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch have so many threads: with another number the last bits may differ from those of an actor or a worker."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
