"""Ray Train around real loops: a lost worker, an error of the loop, what a worker finds."""

import os
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from ray import cloudpickle
from ray.exceptions import ActorDiedError
from torch import nn

from uldscale import files
from uldscale.errors import DataError, IncompleteError
from uldscale.runtime.engine import EngineConfig, Rate, make_engine, read_weights
from uldscale.runtime.ranks import barrier, gather, rank, world_size
from uldscale.runtime.roles import RuntimeConfig, Workers
from uldscale.runtime.stopping import Stopping
from uldscale.runtime.trainer import _Failures, fit

pytestmark = pytest.mark.cluster

cloudpickle.register_pickle_by_value(sys.modules[__name__])

STEPS = 6


def train(folder: str) -> None:
    """A small loop as the real one: finds its checkpoint, trains its share, saves; rank 1 dies once, in step 3."""
    torch.manual_seed(0)
    engine = make_engine(nn.Linear(4, 1), EngineConfig(), Rate(0.1, 2, 1000, 0))
    if saved := files.names(files.join(folder, "checkpoints")):
        engine.load(files.join(folder, "checkpoints", saved[-1]))
    for step in range(engine.steps, STEPS):
        if step == 3 and rank() == 1 and not (Path(folder) / "died").exists():
            (Path(folder) / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        batch = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        engine.step(engine(batch.chunk(world_size())[rank()]).square().mean())
        engine.save(files.join(folder, "checkpoints", f"{step:03d}"))
        barrier()


def train_then_fail(config: dict[str, Any]) -> None:
    train(config["folder"])
    facts = {"world": world_size(), "threads": torch.get_num_threads(), "cwd": os.getcwd()}
    files.write_json(files.join(config["folder"], f"{rank()}-{os.getpid()}.json"), facts)
    if rank() == 1:
        raise DataError("images/17.jpg has no landmarks; remove it from the list")
    gather(torch.ones(1))


def test_a_lost_worker_costs_nothing_and_an_error_of_the_loop_comes_out_at_once(
    runtime: RuntimeConfig, tmp_path: Path
) -> None:
    """Two workers of which one is killed train what one process trains; then rank 1 fails while rank 0 waits for it."""
    alone, together = str(tmp_path / "alone"), str(tmp_path / "together")
    train(alone)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(DataError) as raised:
        run(train_then_fail, {"folder": together}, Path(together), runtime.updated(train=Workers(count=2, threads=2)))
    assert str(raised.value) == "images/17.jpg has no landmarks; remove it from the list"
    assert "in train_then_fail" in raised.value.__notes__[0]
    last = f"checkpoints/{STEPS - 1:03d}"
    torch.testing.assert_close(read_weights(files.join(together, last)), read_weights(files.join(alone, last)))
    facts = [files.read_json(str(path)) for path in Path(together).glob("*.json")]
    assert facts == [{"world": 2, "threads": 2, "cwd": os.getcwd()}] * 2
    assert files.names(files.join(together, "workers")) == []
    assert signal.getsignal(signal.SIGINT) is before


def run(loop: Any, config: dict[str, Any], folder: Path, runtime: RuntimeConfig) -> None:
    """The loop on its workers; its checkpoints are in `folder`/checkpoints."""
    fit(
        loop, config, storage=str(folder / "workers"), name="train", runtime=runtime,
        marks=partial(files.names, str(folder / "checkpoints")), stopping=Stopping(str(folder / "stop")),
    )  # fmt: skip


def test_the_budget_of_failures_starts_anew_with_every_checkpoint() -> None:
    """Two losses after each of many checkpoints are no end; the third one after the same is."""
    step = 0
    failures = _Failures(2, lambda: {"d_uld": step})
    lost = {0: ActorDiedError(), 1: RuntimeError("connection closed by peer")}
    while step < 5:
        step += 1
        failures.after_exception(None, lost)
        failures.after_exception(None, lost)
    with pytest.raises(IncompleteError, match=r"since the last checkpoint than runtime.max_failures = 2 allows"):
        failures.after_exception(None, lost)


def test_what_counts_as_a_failure() -> None:
    """Nodes that are taken away cost nothing; an error of the loop comes out, at once where another attempt would meet it again."""
    failures = _Failures(0, lambda: None)
    taken = ActorDiedError()
    taken._preempted = True
    failures.after_exception(None, {0: taken, 1: RuntimeError("connection closed by peer")})
    with pytest.raises(RuntimeError, match="NCCL error"):
        failures.after_exception(None, {0: RuntimeError("NCCL error")})
    with pytest.raises(DataError, match="no landmarks"):
        _Failures(9, lambda: None).after_exception(None, {0: ActorDiedError(), 1: DataError("no landmarks")})


def die(config: dict[str, Any]) -> None:
    barrier()
    os._exit(1)


def test_one_worker_lost_too_often_leaves_work_over(runtime: RuntimeConfig, tmp_path: Path) -> None:
    with pytest.raises(
        IncompleteError,
        match="training lost its workers more often since the last checkpoint than runtime.max_failures = 0",
    ):
        run(die, {}, tmp_path, runtime.updated(max_failures=0))


def sleep(config: dict[str, Any]) -> None:
    Path(config["asleep"]).touch()
    time.sleep(600)


def test_ctrl_c_is_an_interrupt_while_training(runtime: RuntimeConfig, tmp_path: Path) -> None:
    asleep = tmp_path / "asleep"

    def press() -> None:
        while not asleep.exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run(sleep, {"asleep": str(asleep)}, tmp_path, runtime)
