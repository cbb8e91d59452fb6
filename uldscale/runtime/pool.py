"""A pool of Ray actors that works through items.

Laws: every item is finished or named in an error. A dead, late or failed actor is replaced and costs no other item.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import ray
from ray.exceptions import RayError, RayTaskError

from uldscale.errors import IncompleteError, UserError

if TYPE_CHECKING:  # every actor imports this module, and only its worker may want torch
    from uldscale.runtime.cluster import RuntimeConfig

IN_FLIGHT = 2
"""Calls an actor holds: the one it works on and the next, so that it never waits for the driver."""
NAMED = 5
"""Failed items that an error names."""


class Worker(Protocol):
    """A plain object that does the work; it never knows that it lives in an actor."""

    def setup(self) -> None:
        """Load what all items need."""

    def process(self, item: int) -> Any:
        """Do one item; doing it again must give the same."""


@dataclass(frozen=True)
class Finished:
    """An item that is done."""

    item: int
    result: Any
    seconds: float
    """Time that the worker took over it."""


def run_pool(make: Callable[[], Worker], items: Sequence[int], config: "RuntimeConfig") -> Iterator[Finished]:
    """Process all items on `config.actors` actors, each with its own worker from `make`; yields them as they finish.

    Raises IncompleteError when items failed `config.attempts` times (after all others are done), or when that many
    setups in a row failed; the first cause is chained. A UserError of a worker is raised as it is, at once: it would be
    the same on every attempt.
    """
    return _Pool(make, items, config).run()


class _Actor:
    """The adapter around a worker."""

    def __init__(self, make: Callable[[], Worker]) -> None:
        self._make = make

    def setup(self) -> None:
        self._worker = self._make()
        self._worker.setup()

    def process(self, item: int) -> tuple[Any, float]:
        start = time.monotonic()
        result = self._worker.process(item)
        return result, time.monotonic() - start


@dataclass(eq=False)
class _Member:
    """An actor and what it was given; an actor works first in, first out."""

    actor: Any
    calls: deque[tuple[int | None, Any]] = field(default_factory=deque)
    """(item, or None for the setup; reference to its result)."""
    since: float = field(default_factory=time.monotonic)
    """When the first of the calls began."""

    @property
    def setting_up(self) -> bool:
        return bool(self.calls) and self.calls[0][0] is None


class _Pool:
    def __init__(self, make: Callable[[], Worker], items: Sequence[int], config: "RuntimeConfig") -> None:
        self._make, self._total, self._config = make, len(items), config
        self._waiting = deque(items)
        self._members: list[_Member] = []
        self._finished = 0
        self._failed_setups = 0
        self._tries: Counter[int] = Counter()
        self._given_up: dict[int, Exception] = {}

    def run(self) -> Iterator[Finished]:
        try:
            while left := self._items_left():
                self._hire(left)
                self._hand_out()
                yield from self._collect()
        finally:
            for member in self._members:
                ray.kill(member.actor)
        assert self._finished + len(self._given_up) == self._total
        if self._given_up:
            raise self._incomplete() from next(iter(self._given_up.values()))

    def _items_left(self) -> int:
        return len(self._waiting) + sum(len(member.calls) for member in self._members if not member.setting_up)

    def _hire(self, items_left: int) -> None:
        while len(self._members) < min(self._config.actors, items_left):
            remote: Any = ray.remote(
                num_cpus=self._config.cpus_per_actor,
                num_gpus=self._config.gpus_per_actor,
                # Read when torch and BLAS are loaded, so it has to be there before the process starts.
                runtime_env={"env_vars": {"OMP_NUM_THREADS": str(self._config.threads_per_actor)}},
            )(_Actor)
            actor = remote.remote(self._make)
            self._members.append(_Member(actor, deque([(None, actor.setup.remote())])))

    def _hand_out(self) -> None:
        # A call behind another may hide how that one ended when it kills the actor; setups have to be told from items.
        ready = [member for member in self._members if not member.setting_up]
        for depth in range(1, IN_FLIGHT + 1):
            for member in ready:
                if self._waiting and len(member.calls) < depth:
                    item = self._waiting.popleft()
                    member.calls.append((item, member.actor.process.remote(item)))

    def _collect(self) -> Iterator[Finished]:
        """Wait for one call to end, well or badly, or for a deadline."""
        busy = {member.calls[0][1]: member for member in self._members if member.calls}
        deadline = min(member.since for member in busy.values()) + self._config.deadline_seconds
        ready, _ = ray.wait(list(busy), timeout=max(0.0, deadline - time.monotonic()))
        for reference in ready:
            yield from self._finish(busy[reference])
        if not ready:
            self._drop_late()

    def _finish(self, member: _Member) -> Iterator[Finished]:
        item, reference = member.calls.popleft()
        member.since = time.monotonic()
        try:
            outcome = ray.get(reference)
        except RayError as error:
            self._drop(member, item, error)
            return
        self._failed_setups = 0
        if item is not None:
            self._finished += 1
            yield Finished(item, *outcome)

    def _drop_late(self) -> None:
        limit = self._config.deadline_seconds
        for member in [member for member in self._members if member.calls]:
            if time.monotonic() >= member.since + limit:
                item, _ = member.calls.popleft()
                self._drop(member, item, TimeoutError(f"took longer than runtime.deadline_seconds = {limit:g}"))

    def _drop(self, member: _Member, item: int | None, error: Exception) -> None:
        """Kill an actor over a failed call: after a CUDA error, say, it is of no use. What it held behind goes back."""
        ray.kill(member.actor)
        self._members.remove(member)
        self._waiting.extendleft(held for held, _ in reversed(member.calls) if held is not None)
        cause = _cause(error)
        if isinstance(cause, UserError):
            raise cause from error
        if item is None:
            self._setup_failed(error)
        else:
            self._item_failed(item, error)

    def _setup_failed(self, error: Exception) -> None:
        self._failed_setups += 1
        if self._failed_setups >= self._config.attempts:
            raise IncompleteError(
                f"{self._failed_setups} actors in a row failed in their setup ({_brief(error)}); put that right and "
                "run the same command again"
            ) from error

    def _item_failed(self, item: int, error: Exception) -> None:
        self._tries[item] += 1
        if self._tries[item] < self._config.attempts:
            self._waiting.append(item)
        else:
            self._given_up[item] = error

    def _incomplete(self) -> IncompleteError:
        named = "; ".join(f"item {item}: {_brief(error)}" for item, error in list(self._given_up.items())[:NAMED])
        more = f"; and {len(self._given_up) - NAMED} more" if len(self._given_up) > NAMED else ""
        return IncompleteError(
            f"{len(self._given_up)} of {self._total} items failed {self._config.attempts} times each ({named}{more}); "
            "put that right and run the same command again"
        )


def _cause(error: Exception) -> Exception:
    cause = error.cause if isinstance(error, RayTaskError) else error
    return cause if isinstance(cause, Exception) else error


def _brief(error: Exception) -> str:
    cause = _cause(error)
    lines = str(cause).strip().splitlines()
    return f"{type(cause).__name__}: {lines[0]}" if lines else type(cause).__name__
