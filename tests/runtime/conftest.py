"""One Ray for all tests of this folder, and two processes in it that share a gloo process group."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
import torch.distributed
from ray import cloudpickle

from uldscale.runtime.cluster import connect
from uldscale.runtime.roles import RuntimeConfig, Workers

# Actors can't import this file by its name.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Rank:
    """One process of a group."""

    def __init__(self, rank: int, world: int, meeting_point: str) -> None:
        torch.set_num_threads(1)
        torch.distributed.init_process_group("gloo", init_method=f"file://{meeting_point}", rank=rank, world_size=world)

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)


class Ranks:
    """Runs a function in all processes of a group; returns what each of them returned."""

    def __init__(self, world: int, meeting_point: Path) -> None:
        actor = ray.remote(num_cpus=0)(Rank)
        self._actors = [actor.remote(rank, world, str(meeting_point)) for rank in range(world)]

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        results: list[Any] = ray.get([actor.run.remote(function, *arguments) for actor in self._actors])
        return results


@pytest.fixture(scope="session")
def runtime() -> RuntimeConfig:
    """Small settings on this machine; Ray is connected."""
    os.environ["RAY_metrics_report_interval_ms"] = "1000"  # noqa: SIM112
    config = RuntimeConfig(train=Workers(threads=1))
    connect(config)
    return config


@pytest.fixture(scope="session")
def two_ranks(runtime: RuntimeConfig, tmp_path_factory: pytest.TempPathFactory) -> Ranks:
    """Two processes that share a gloo process group."""
    return Ranks(2, tmp_path_factory.mktemp("ranks") / "meeting-point")
