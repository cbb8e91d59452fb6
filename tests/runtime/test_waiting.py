"""Who waits for places in the cluster says so, and does not wait for ever."""

import os
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import cloudpickle

from uldscale import files
from uldscale.errors import IncompleteError
from uldscale.runtime import waiting
from uldscale.runtime.actors import is_waiting
from uldscale.runtime.placement import watching_placement
from uldscale.runtime.pool import Pool
from uldscale.runtime.roles import Role, RuntimeConfig, Team, Workers
from uldscale.runtime.stopping import Stopping
from uldscale.runtime.trainer import fit
from uldscale.runtime.waiting import Wait

cloudpickle.register_pickle_by_value(sys.modules[__name__])

NOWHERE = Role(cpus=1000, node="nowhere")


class Echo:
    def setup(self) -> None:
        pass

    def process(self, item: int) -> int:
        return item


def test_it_says_what_it_wants_and_what_is_free(
    runtime: RuntimeConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(waiting, "SAY_SECONDS", 0.0)
    wait = Wait("train", NOWHERE, limit=100)
    wait.still(2)
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(
        "waiting for places for 0 s: runtime.train wants 2 x (1000 CPUs, 0 GPUs, a node with the label uldscale.role=nowhere); "
        "the cluster has "
    )
    assert said.endswith("GiB of memory free, and 0 nodes with that label")


def test_two_waits_have_a_time_each(runtime: RuntimeConfig) -> None:
    wait = Wait("train", NOWHERE, limit=0.5)
    for _ in range(2):
        wait.still(1)
        time.sleep(0.3)
        wait.over()
    wait.still(1)
    time.sleep(0.6)
    wait.still(1, ends=False)
    with pytest.raises(
        IncompleteError, match="no place within 0.5 s.*lower runtime.train, and run the same command again"
    ):
        wait.still(1)


def test_an_actor_waits_while_another_works(runtime: RuntimeConfig) -> None:
    """Two actors that each want more than half of the CPUs: the second never gets a place, and nobody minds."""
    half = ray.cluster_resources()["CPU"] / 2 + 1
    with Pool(Echo, "extract", runtime.updated(extract=Team(count=2, cpus=half))) as pool:
        finished = pool.run(range(30))
        first = next(finished)
        pool._wait = Wait("extract", NOWHERE, limit=0.0)
        assert {first.item, *(done.item for done in finished)} == set(range(30))


def test_workers_without_a_place_end_the_training(runtime: RuntimeConfig, tmp_path: Path) -> None:
    """Ray Train would wait for ever."""
    config = runtime.updated(train=Workers(cpus=1000), wait_seconds=3)
    with pytest.raises(
        IncompleteError, match=r"^runtime.train wants 1 x \(1000 CPUs, 0 GPUs\) and got no place within 3 s"
    ):
        fit(
            lambda config: None, {}, storage=str(tmp_path), name="train", runtime=config, marks=partial(int),
            stopping=Stopping(str(tmp_path / "stop")),
        )  # fmt: skip
    assert files.names(str(tmp_path)) == []


def test_a_service_without_a_place_ends_the_block(runtime: RuntimeConfig) -> None:
    actor: Any = ray.remote(Echo).options(num_cpus=1000, max_restarts=-1).remote()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with (
            pytest.raises(IncompleteError, match="^runtime.relabel wants 1 x .1000 CPUs"),
            watching_placement("relabel", NOWHERE, 1, 2.0, lambda: is_waiting(actor)),
        ):
            time.sleep(60)
    finally:
        signal.signal(signal.SIGTERM, before)
        ray.kill(actor)


def test_an_interrupt_stays_one(runtime: RuntimeConfig) -> None:
    # Programs that a shell starts in the background ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with (
        pytest.raises(KeyboardInterrupt),
        watching_placement("relabel", Role(), 1, 100.0, lambda: False),
    ):
        time.sleep(60)
    signal.signal(signal.SIGINT, before)
