"""A watch over the Ray that a process is connected to: when it is lost, the process ends, since all that counts is at rest.

Ray itself would wait for its raylet without end, and for the head of its cluster 60 seconds, to end the process with exit
code 1 then, which says bug.
"""

import os
import sys
import threading
import time
from typing import Any

import psutil
import ray

from uldscale.errors import IncompleteError

WATCH_SECONDS = 1.0
SILENT_ROUNDS = 30
"""Without an answer from the head. They are counted, since a process that somebody stops for a while hears nothing, too."""


class NodeWatch:
    """Two threads for the process that is connected: one asks the head, which may take for ever, the other looks."""

    def __init__(self) -> None:
        self._node = ray.get_runtime_context().get_node_id()
        self._raylet = _own_raylet()
        self._silent = 0

    def start(self) -> None:
        """Watch until Ray is shut down."""
        for loop in (self._ask, self._look):
            threading.Thread(target=loop, daemon=True).start()

    def _ask(self) -> None:
        while ray.is_initialized():
            if self._node not in living_nodes() and ray.is_initialized():
                _leave()
            self._silent = 0
            time.sleep(WATCH_SECONDS)

    def _look(self) -> None:
        while ray.is_initialized():
            time.sleep(WATCH_SECONDS)
            self._silent += 1
            if (self._raylet_is_dead() or self._silent > SILENT_ROUNDS) and ray.is_initialized():
                _leave()

    def _raylet_is_dead(self) -> bool:
        raylet = self._raylet
        return raylet is not None and not (raylet.is_running() and raylet.status() != psutil.STATUS_ZOMBIE)


def _leave() -> None:
    sys.stdout.flush()
    sys.stderr.write("uldscale: the Ray node of this process has died; the same command goes on from here\n")
    sys.stderr.flush()
    os._exit(IncompleteError.exit_code)


def _own_raylet() -> psutil.Process | None:
    """The process behind a Ray that this process started: its death shows at once, on a cluster after missed heartbeats."""
    return next((child for child in psutil.Process().children() if child.name() == "raylet"), None)


def living_nodes() -> set[str]:
    """Ids of the nodes that the head of the cluster takes for alive."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return {node["NodeID"] for node in nodes if node["Alive"]}
