"""A pool of Ray actors that works through items.

Laws: every item is finished or named in an error. A dead, late or failed actor is replaced and costs no other item.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import ray
from ray.exceptions import RayError, RayTaskError

from uldscale.errors import IncompleteError, UserError, first_of
from uldscale.runtime.actors import IN_FLIGHT, SETUP, STARTED, Member, Worker

if TYPE_CHECKING:
    from uldscale.runtime.cluster import RuntimeConfig

POLL_SECONDS = 1.0
"""Ray's own waiting takes no notice of an interruption when its node has died."""


@dataclass(frozen=True)
class Finished:
    """An item that is done."""

    item: Any
    result: Any
    seconds: float
    """Time that the worker took over it."""


class Pool:
    """`config.actors` actors, each with its own worker from `make`; a context that ends them.

    Actors start with the first run and stay for the next one.
    """

    def __init__(self, make: Callable[[], Worker], config: "RuntimeConfig") -> None:
        self._make, self._config = make, config
        self._members: list[Member] = []
        self._failed_setups = 0
        self._begin([])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        for member in self._members:
            member.kill()
        self._members = []

    def run(self, items: Sequence[Any]) -> Iterator[Finished]:
        """Process all items, which are hashable; yields them as they finish.

        Raises IncompleteError when items failed `config.attempts` times (after all others are done), when that many
        setups in a row failed, or when the cluster has no place for any actor within the deadline; the first cause is
        chained. A UserError of a worker is raised as it is: that of a setup at once, that of an item after its last attempt,
        since a disk or a server may be out of order for a moment only.
        """
        self._begin(items)
        while left := len(self._waiting) + sum(len(member.items) for member in self._members):
            while len(self._members) < min(self._config.actors, left):
                self._members.append(Member.hire(self._make, self._config))
            self._hand_out()
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

    def _collect(self) -> Iterator[Finished]:
        """Wait for one call to end, well or badly, or for a deadline."""
        busy = {member.calls[0][1]: member for member in self._members if member.calls}
        deadline = min(member.since for member in self._timed()) + self._config.deadline_seconds
        # What has come while nobody looked is not late.
        ready, _ = ray.wait(list(busy), timeout=0)
        while not ready and (left := deadline - time.monotonic()) > 0:
            ready, _ = ray.wait(list(busy), timeout=min(left, POLL_SECONDS))
        for reference in ready:
            yield from self._finish(busy[reference])
        if not ready:
            self._drop_late()

    def _timed(self) -> list[Member]:
        """Members that a deadline counts for: an actor may wait for a place as long as another one works."""
        busy = [member for member in self._members if member.calls]
        return [member for member in busy if not member.pending] or busy

    def _finish(self, member: Member) -> Iterator[Finished]:
        item, reference = member.calls.popleft()
        member.since = time.monotonic()
        try:
            outcome = ray.get(reference)
        except RayError as error:
            self._drop(member, item, error)
            return
        if item is STARTED:
            member.set_up()
            return
        self._failed_setups = 0
        if item is not SETUP:
            self._finished += 1
            yield Finished(item, *outcome)

    def _drop_late(self) -> None:
        limit = self._config.deadline_seconds
        for member in [member for member in self._timed() if time.monotonic() >= member.since + limit]:
            if member.pending:
                raise self._no_place()
            item, _ = member.calls.popleft()
            self._drop(member, item, TimeoutError(f"took longer than runtime.deadline_seconds = {limit:g}"))

    def _drop(self, member: Member, item: Any, error: Exception) -> None:
        """Kill an actor over a failed call: after a CUDA error, say, it is of no use. What it held goes back."""
        member.kill()
        self._members.remove(member)
        self._waiting.extendleft(reversed(member.items))
        cause = _cause(error)
        if isinstance(cause, UserError) and self._is_final(item):
            raise cause from error
        if item in (STARTED, SETUP):
            self._setup_failed(error)
        elif member.items and not isinstance(error, RayTaskError):
            # It died or hung over one of several items, and nobody knows which.
            self._suspects.update([item, *member.items])
            self._waiting.appendleft(item)
        else:
            self._item_failed(item, error)

    def _is_final(self, item: Any) -> bool:
        return item in (STARTED, SETUP) or self._tries[item] + 1 >= self._config.attempts

    def _setup_failed(self, error: Exception) -> None:
        self._failed_setups += 1
        if self._failed_setups >= self._config.attempts:
            raise IncompleteError(
                f"{self._failed_setups} actors in a row failed in their setup ({_brief(error)}); put that right and "
                "run the same command again"
            ) from error

    def _item_failed(self, item: Any, error: Exception) -> None:
        self._tries[item] += 1
        if self._tries[item] < self._config.attempts:
            self._waiting.append(item)
        else:
            self._given_up[item] = error

    def _no_place(self) -> IncompleteError:
        config, free = self._config, _free_resources()
        return IncompleteError(
            f"no actor found a place within {config.deadline_seconds:g} s: each wants {config.cpus_per_actor:g} CPUs and "
            f"{config.gpus_per_actor:g} GPUs, and the cluster has {free.get('CPU', 0):g} and {free.get('GPU', 0):g} free; "
            "add nodes or lower runtime.cpus_per_actor and runtime.gpus_per_actor, and run the same command again"
        )

    def _incomplete(self, total: int) -> IncompleteError:
        named = first_of([f"item {item}: {_brief(error)}" for item, error in self._given_up.items()])
        return IncompleteError(
            f"{len(self._given_up)} of {total} items failed {self._config.attempts} times each ({named}); "
            "put that right and run the same command again"
        )


def _free_resources() -> dict[str, float]:
    found: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
    return found


def _cause(error: Exception) -> Exception:
    cause = error.cause if isinstance(error, RayTaskError) else error
    return cause if isinstance(cause, Exception) else error


def _brief(error: Exception) -> str:
    cause = _cause(error)
    lines = str(cause).strip().splitlines()
    return f"{type(cause).__name__}: {lines[0]}" if lines else type(cause).__name__
