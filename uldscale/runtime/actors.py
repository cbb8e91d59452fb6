"""A Ray actor around a plain worker, and what it was given to do."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, Self

import ray

from uldscale.runtime.roles import Role

IN_FLIGHT = 3
"""Calls that an actor works on side by side, each in a thread: while one computes, the next reads and the last writes."""

STARTED, SETUP = "started", "setup"
"""The calls that get an actor ready, where an item would be."""


_WITHOUT_PLACE = ("DEPENDENCIES_UNREADY", "PENDING_CREATION", "RESTARTING")
"""States of an actor in Ray's own table."""


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

    def started(self) -> str:
        """Answers with the id of its node as soon as the cluster has found a place for the actor."""
        return str(ray.get_runtime_context().get_node_id())

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

    STATES: ClassVar = ("waiting", "setup", "idle", "working")

    actor: Any
    calls: deque[tuple[Any, Any]] = field(default_factory=deque)
    """(item, STARTED or SETUP; reference to its result)."""
    since: float = field(default_factory=time.monotonic)
    """When the first of the calls came to the head."""
    node: str | None = None
    """Where it is."""

    @classmethod
    def hire(cls, make: Callable[[], Worker], role: Role) -> Self:
        """A new actor, which waits for a place in the cluster."""
        remote: Any = ray.remote(_Actor)
        member = cls(remote.options(max_concurrency=IN_FLIGHT, **role.options()).remote(make))
        member.calls.append((STARTED, member.actor.started.remote()))
        return member

    @property
    def pending(self) -> bool:
        """Whether the cluster has no place for it yet."""
        return self.state == "waiting"

    @property
    def ready(self) -> bool:
        """Whether it takes items."""
        return self.state in ("idle", "working")

    @property
    def state(self) -> str:
        """One of STATES: waits for a place, is in its setup, has nothing to do, works."""
        if not self.calls:
            return "idle"
        return {STARTED: "waiting", SETUP: "setup"}.get(self.calls[0][0], "working")

    @property
    def items(self) -> list[Any]:
        """The items that it works on."""
        return [item for item, _ in self.calls if item not in (STARTED, SETUP)]

    def set_up(self, node: str) -> None:
        """Let it load what all items need, on the node where it is."""
        self.node = node
        self.calls.append((SETUP, self.actor.setup.remote()))

    def give(self, item: Any) -> None:
        """One more item."""
        if not self.calls:
            self.since = time.monotonic()
        self.calls.append((item, self.actor.process.remote(item)))

    def kill(self) -> None:
        """End the actor, whatever it does."""
        ray.kill(self.actor)


def is_waiting(actor: Any) -> bool:
    """Whether an actor that Ray restarts has no place in the cluster at present."""
    known: dict[str, Any] = ray._private.state.actors(actor._actor_id.hex())
    return known.get("State") in _WITHOUT_PLACE
