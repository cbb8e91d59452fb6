"""Waiting for resources of the cluster: told every half minute, measured, and ended after a while."""

import time
from typing import Any

import ray

from uldscale.errors import IncompleteError
from uldscale.runtime import telemetry
from uldscale.runtime.roles import LABEL, Role
from uldscale.runtime.screen import screen

SAY_SECONDS = 30.0


class Wait:
    """The wait of a role for places in the cluster; of two that follow each other each has its own time."""

    def __init__(self, name: str, role: Role, limit: float) -> None:
        """`name` of the role in `runtime`; `limit` in seconds, `runtime.wait_seconds`."""
        self._name, self._role, self._limit = name, role, limit
        self._since: float | None = None
        self._said = 0.0

    def still(self, count: int, *, ends: bool = True) -> None:
        """`count` processes have no place yet. Raises IncompleteError after the limit, unless the wait never `ends`: others work."""
        now = time.monotonic()
        if self._since is None:
            self._since = self._said = now
        waited = now - self._since
        telemetry.record("uldscale_waiting_seconds", waited, role=self._name)
        if ends and waited >= self._limit:
            raise IncompleteError(
                f"{self._wants(count)} and got no place within {self._limit:g} s; {free(self._role)}; add nodes or lower "
                f"runtime.{self._name}, and run the same command again"
            )
        if now - self._said >= SAY_SECONDS:
            self._said = now
            screen().say(f"waiting for places for {waited:.0f} s: {self._wants(count)}; {free(self._role)}")

    def over(self) -> None:
        """All have a place."""
        if self._since is not None:
            self._since = None
            telemetry.record("uldscale_waiting_seconds", 0.0, role=self._name)

    def _wants(self, count: int) -> str:
        return f"runtime.{self._name} wants {count} x ({self._role.wants})"


def free(role: Role | None = None) -> str:
    """What the cluster has free, in words; with a role that wants a label also how many nodes have that."""
    found: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
    memory = found.get("memory", 0.0) / 2**30
    words = (
        f"the cluster has {found.get('CPU', 0):g} CPUs, {found.get('GPU', 0):g} GPUs, {memory:.0f} GiB of memory free"
    )
    if role is None or role.node is None:
        return words
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    labelled = [node for node in nodes if node["Alive"] and node["Labels"].get(LABEL) == role.node]
    return f"{words}, and {len(labelled)} nodes with that label"
