"""A pool of Ray actors that works through items.

Laws: every item is finished or named in an error. A dead, late or failed actor is replaced and costs no other item.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import ray
from ray.exceptions import RayError, RayTaskError

from uldscale.errors import IncompleteError, UserError, first_of
from uldscale.runtime import telemetry
from uldscale.runtime.actors import IN_FLIGHT, SETUP, STARTED, Member, Worker
from uldscale.runtime.roles import RuntimeConfig, Team
from uldscale.runtime.waiting import Wait
from uldscale.runtime.watch import living_nodes

POLL_SECONDS = 1.0
"""Ray's own waiting takes no notice of an interruption when its node has died."""

_NODE_DIED = "its node has died"
"""What Ray says of an actor's death; it has no class for it."""

PoolRole = Literal["extract", "locate"]
"""The roles whose processes are actors of a pool."""


@dataclass(frozen=True)
class Finished:
    """An item that is done."""

    item: Any
    result: Any
    seconds: float
    """Time that the worker took over it."""


class Pool:
    """As many actors as a role of `runtime` has, each with its own worker from `make`; a context that ends them.

    Actors start with the first run and stay for the next one.
    """

    def __init__(self, make: Callable[[], Worker], name: PoolRole, runtime: RuntimeConfig) -> None:
        self._make, self._name, self._runtime = make, name, runtime
        self._role: Team = getattr(runtime, name)
        self._wait = Wait(name, self._role, runtime.wait_seconds)
        self._members: list[Member] = []
        self._failed_setups = 0
        self._begin([])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        for member in self._members:
            member.kill()
        self._members = []
        self._wait.over()
        self._tell()

    def run(self, items: Sequence[Any]) -> Iterator[Finished]:
        """Process all items, which are hashable; yields them as they finish.

        Raises IncompleteError when items failed `runtime.attempts` times (after all others are done), when that many
        setups in a row failed, or when the cluster has no place for any actor within `runtime.wait_seconds`; the first cause
        is chained. A UserError of a worker is raised as it is: that of a setup at once, that of an item after its last attempt,
        since a disk or a server may be out of order for a moment only.
        """
        self._begin(items)
        while left := len(self._waiting) + sum(len(member.items) for member in self._members):
            while len(self._members) < min(self._role.count, left):
                self._members.append(Member.hire(self._make, self._role))
            self._hand_out()
            self._tell()
            yield from self._collect()
        assert self._finished + len(self._given_up) == len(items)
        if self._given_up:
            raise self._incomplete(len(items)) from next(iter(self._given_up.values()))

    def _begin(self, items: Sequence[Any]) -> None:
        self._waiting = deque(items)
        self._finished = 0
        self._tries: Counter[Any] = Counter()
        self._suspects: set[Any] = set()
        self._given_up: dict[Any, Exception] = {}

    def _hand_out(self) -> None:
        ready = [member for member in self._members if member.ready]
        for depth in range(1, IN_FLIGHT + 1):
            for member in ready:
                if self._waiting and len(member.calls) < depth and self._may_take(member):
                    member.give(self._waiting.popleft())

    def _may_take(self, member: Member) -> bool:
        """A suspect works alone in its actor, so that it is known whose fault it is when that dies again."""
        return not member.calls or self._suspects.isdisjoint([self._waiting[0], *member.items])

    def _tell(self) -> None:
        states = Counter(member.state for member in self._members)
        for state in Member.STATES:
            telemetry.record("uldscale_actors", states[state], role=self._name, state=state)
        telemetry.record("uldscale_items_queued", len(self._waiting), role=self._name)
        working = sum(len(member.items) for member in self._members)
        telemetry.record("uldscale_items_working", working, role=self._name)

    def _collect(self) -> Iterator[Finished]:
        """Wait for one call to end, well or badly, or for a deadline."""
        busy = {member.calls[0][1]: member for member in self._members if member.calls}
        placed = [member for member in busy.values() if not member.pending]
        limit = self._runtime.deadline_seconds
        deadline = min((member.since + limit for member in placed), default=float("inf"))
        # What has come while nobody looked is not late.
        ready, _ = ray.wait(list(busy), timeout=0)
        while not ready and (left := deadline - time.monotonic()) > 0:
            self._watch_places(len(busy) - len(placed), alone=not placed)
            ready, _ = ray.wait(list(busy), timeout=min(left, POLL_SECONDS))
        for reference in ready:
            yield from self._finish(busy[reference])
        if not ready:
            self._drop_late(placed)

    def _watch_places(self, pending: int, *, alone: bool) -> None:
        """An actor may wait for a place as long as another one works."""
        if pending:
            self._wait.still(pending, ends=alone)
        else:
            self._wait.over()

    def _finish(self, member: Member) -> Iterator[Finished]:
        item, reference = member.calls.popleft()
        member.since = time.monotonic()
        try:
            outcome = ray.get(reference)
        except RayError as error:
            self._drop(member, item, error)
            return
        if item is STARTED:
            member.set_up(outcome)
            return
        self._failed_setups = 0
        if item is not SETUP:
            self._finished += 1
            yield Finished(item, *outcome)

    def _drop_late(self, placed: list[Member]) -> None:
        limit = self._runtime.deadline_seconds
        for member in [member for member in placed if time.monotonic() >= member.since + limit]:
            item, _ = member.calls.popleft()
            self._drop(member, item, TimeoutError(f"took longer than runtime.deadline_seconds = {limit:g}"))

    def _drop(self, member: Member, item: Any, error: Exception) -> None:
        """Kill an actor over a failed call: after a CUDA error, say, it is of no use. What it held goes back."""
        loss = _loss(member, error)
        telemetry.record("uldscale_actors_lost_total", 1, role=self._name, cause=loss)
        member.kill()
        self._members.remove(member)
        self._waiting.extendleft(reversed(member.items))
        cause = _cause(error)
        if isinstance(cause, UserError) and self._is_final(item):
            raise cause from error
        if item in (STARTED, SETUP):
            # Nodes come and go, and say nothing about the next one.
            if loss != "node":
                self._setup_failed(error)
        elif member.items and not isinstance(error, RayTaskError):
            # It died or hung over one of several items, and nobody knows which.
            self._suspects.update([item, *member.items])
            self._waiting.appendleft(item)
            telemetry.record("uldscale_item_retries_total", 1 + len(member.items), role=self._name)
        else:
            self._item_failed(item, error)

    def _is_final(self, item: Any) -> bool:
        return item in (STARTED, SETUP) or self._tries[item] + 1 >= self._runtime.attempts

    def _setup_failed(self, error: Exception) -> None:
        self._failed_setups += 1
        if self._failed_setups >= self._runtime.attempts:
            raise IncompleteError(
                f"{self._failed_setups} actors in a row failed in their setup ({_brief(error)}); put that right and "
                "run the same command again"
            ) from error

    def _item_failed(self, item: Any, error: Exception) -> None:
        self._tries[item] += 1
        if self._tries[item] < self._runtime.attempts:
            telemetry.record("uldscale_item_retries_total", 1, role=self._name)
            self._waiting.append(item)
        else:
            telemetry.record("uldscale_items_given_up_total", 1, role=self._name)
            self._given_up[item] = error

    def _incomplete(self, total: int) -> IncompleteError:
        named = first_of([f"item {item}: {_brief(error)}" for item, error in self._given_up.items()])
        return IncompleteError(
            f"{len(self._given_up)} of {total} items failed {self._runtime.attempts} times each ({named}); "
            "put that right and run the same command again"
        )


def _loss(member: Member, error: Exception) -> Literal["error", "late", "process", "node"]:
    """Why an actor is replaced."""
    if isinstance(error, TimeoutError):
        return "late"
    if isinstance(error, RayTaskError):
        return "error"
    gone = member.node is not None and member.node not in living_nodes()
    return "node" if gone or _NODE_DIED in str(error) else "process"


def _cause(error: Exception) -> Exception:
    cause = error.cause if isinstance(error, RayTaskError) else error
    return cause if isinstance(cause, Exception) else error


def _brief(error: Exception) -> str:
    cause = _cause(error)
    lines = str(cause).strip().splitlines()
    return f"{type(cause).__name__}: {lines[0]}" if lines else type(cause).__name__
