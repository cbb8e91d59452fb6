"""A Ray actor around a plain worker, and what it was given to do."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self

import ray

from uldscale.runtime import environment

if TYPE_CHECKING:  # every actor imports this module, and only its worker may want torch
    from uldscale.runtime.cluster import RuntimeConfig

IN_FLIGHT = 3
"""Calls that an actor works on side by side, each in a thread: while one computes, the next reads and the last writes."""

STARTED, SETUP = "started", "setup"
"""The calls that get an actor ready, where an item would be."""


class Worker(Protocol):
    """A plain object that does the work; it never knows that it lives in an actor."""

    def setup(self) -> None:
        """Load what all items need."""

    def process(self, item: Any) -> Any:
        """Do one item; doing it again must give the same. Up to IN_FLIGHT threads are in it at a time."""


class _Actor:
    """The adapter around a worker."""

    def __init__(self, make: Callable[[], Worker]) -> None:
        self._make = make

    def started(self) -> None:
        """Answers as soon as the cluster has found a place for the actor."""

    def setup(self) -> None:
        self._worker = self._make()
        self._worker.setup()

    def process(self, item: Any) -> tuple[Any, float]:
        start = time.monotonic()
        result = self._worker.process(item)
        return result, time.monotonic() - start


@dataclass(eq=False)
class Member:
    """An actor and its calls: first those that get it ready, then items, which overlap but are awaited in order."""

    actor: Any
    calls: deque[tuple[Any, Any]] = field(default_factory=deque)
    """(item, STARTED or SETUP; reference to its result)."""
    since: float = field(default_factory=time.monotonic)
    """When the first of the calls came to the head."""

    @classmethod
    def hire(cls, make: Callable[[], Worker], config: "RuntimeConfig") -> Self:
        """A new actor, which waits for a place in the cluster."""
        remote: Any = ray.remote(_Actor)
        placed = remote.options(
            num_cpus=config.cpus_per_actor,
            num_gpus=config.gpus_per_actor,
            max_concurrency=IN_FLIGHT,
            runtime_env={"env_vars": environment.of_worker(config.threads_per_actor, config.gpus_per_actor)},
        )
        member = cls(placed.remote(make))
        member.calls.append((STARTED, member.actor.started.remote()))
        return member

    @property
    def pending(self) -> bool:
        """Whether the cluster has no place for it yet."""
        return bool(self.calls) and self.calls[0][0] is STARTED

    @property
    def ready(self) -> bool:
        """Whether it takes items."""
        return not self.calls or self.calls[0][0] not in (STARTED, SETUP)

    @property
    def items(self) -> list[Any]:
        """The items that it works on."""
        return [item for item, _ in self.calls if item not in (STARTED, SETUP)]

    def set_up(self) -> None:
        """Let it load what all items need."""
        self.calls.append((SETUP, self.actor.setup.remote()))

    def give(self, item: Any) -> None:
        """One more item."""
        if not self.calls:
            self.since = time.monotonic()
        self.calls.append((item, self.actor.process.remote(item)))

    def kill(self) -> None:
        """End the actor, whatever it does."""
        ray.kill(self.actor)
