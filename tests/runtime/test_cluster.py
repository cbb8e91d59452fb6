"""Ray on this machine, and collectives between two real processes."""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from ray import cloudpickle

from uldscale.errors import ConfigError, IncompleteError
from uldscale.runtime.cluster import ask, connect
from uldscale.runtime.ranks import barrier, gather, rank, world_size
from uldscale.runtime.roles import Role, RuntimeConfig, Workers

cloudpickle.register_pickle_by_value(sys.modules[__name__])


def test_connect_twice_is_one_ray(runtime: RuntimeConfig) -> None:
    before = ray.get_runtime_context().get_node_id()
    connect(runtime)
    assert ray.get_runtime_context().get_node_id() == before


@pytest.mark.parametrize(
    ("address", "reason"), [("http://127.0.0.1:8265", "that is a dashboard"), ("10.0.0.5", "it has no port")]
)
def test_an_address_that_is_none_of_a_head_is_one_line(address: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=rf"no Ray cluster answers at RAY_ADDRESS='{address}' \({reason}"):
        ask(address)


def test_two_cores_hold_all_that_a_run_starts_at_once(runtime: RuntimeConfig) -> None:
    assert ray.cluster_resources()["CPU"] >= 2 * RuntimeConfig().train.cpus + 2


def test_actors_can_import_the_package_and_stay_in_the_folder_of_the_run(runtime: RuntimeConfig) -> None:
    @ray.remote(num_cpus=0)
    def look() -> tuple[str, str]:
        import uldscale

        return uldscale.__file__, os.getcwd()

    import uldscale

    assert ray.get(look.remote()) == (uldscale.__file__, os.getcwd())


@pytest.mark.parametrize("late", [True, False], ids=["late", "something else"])
def test_a_ray_that_is_late_leaves_work_over(monkeypatch: pytest.MonkeyPatch, late: bool) -> None:
    """In Ray's own words, since it has no class for it."""
    (said,) = re.findall(r'"The current (node timed out during startup)\. This "', inspect.getsource(ray._private.node))

    def fail(**_: Any) -> None:
        raise Exception(f"The current {said}. This could happen because ..." if late else "no disk")  # noqa: TRY002

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", fail)
    monkeypatch.setattr(ray, "shutdown", lambda: None)  # The Ray of the other tests goes on.
    with pytest.raises(
        IncompleteError if late else Exception, match="run the same command again" if late else "no disk"
    ):
        connect(RuntimeConfig())


def test_gpus_that_are_not_there_are_the_users_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match="asks for 2 GPUs at once, but this machine has 1"):
        connect(RuntimeConfig(train=Workers(count=1, gpus=1), relabel=Role(gpus=1)))


GPU_THAT_TORCH_CANNOT_USE = """
import os, ray
from ray import cloudpickle
from uldscale.runtime.cluster import connect, device
from uldscale.runtime.pool import Pool
from uldscale.runtime.roles import RuntimeConfig, Team

ray_init = ray.init
ray.init = lambda **settings: ray_init(**settings, num_gpus=1)

class Worker:
    def __init__(self, gpus):
        self.gpus = gpus
    def setup(self):
        import torch
        torch.cuda.is_available = lambda: not self.gpus
        self.device = device(self.gpus)
    def process(self, item):
        return self.device.type, os.environ["CUDA_VISIBLE_DEVICES"]

for gpus in (0, 1):
    runtime = RuntimeConfig(extract=Team(gpus=gpus))
    connect(runtime)
    with Pool(lambda: Worker(gpus), "extract", runtime) as pool:
        print([done.result for done in pool.run([0])])
"""


@pytest.mark.cluster
def test_a_gpu_is_computed_on_by_those_who_reserve_it_or_by_none() -> None:
    """Whoever reserves none sees none and is told so; whoever reserves one that torch cannot use is no CPU actor in disguise."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    run = subprocess.run(
        [sys.executable, "-c", GPU_THAT_TORCH_CANNOT_USE], env=environment, capture_output=True, text=True
    )
    assert run.stdout == "[('cpu', '')]\n"
    assert "warning: this run leaves all GPUs of Ray idle (1); set runtime.extract.gpus=1" in run.stderr
    last = run.stderr.splitlines()[-1]
    assert re.fullmatch(
        r"uldscale\.errors\.ConfigError: this process was given a GPU on .*, which torch .* cannot use; .*", last
    )


def test_a_process_alone_is_a_world_of_one() -> None:
    rows = torch.ones(3, 2, requires_grad=True)
    barrier()
    assert (rank(), world_size()) == (0, 1)
    assert gather(rows) is rows


def test_gather_puts_the_rows_of_all_ranks_in_rank_order(two_ranks: Any) -> None:
    def collect() -> list[list[int]]:
        return [
            gather(torch.arange(rank() + 1) + 10 * rank(), [1, 2]).tolist(),
            gather(torch.full((1 - rank(), 2), True), [1, 0]).flatten().tolist(),
            gather(torch.full((2,), rank(), dtype=torch.int16)).tolist(),
        ]

    assert two_ranks(collect) == [[[0, 10, 11], [True, True], [0, 0, 1, 1]]] * 2


def test_gradients_averaged_over_ranks_are_those_of_the_whole_batch(two_ranks: Any) -> None:
    """Each rank sees other rows, and other numbers of rows, of one batch; the loss couples all of them."""
    torch.manual_seed(0)
    batch, weight = torch.randn(5, 4), torch.randn(4, 3)

    def loss_of(rows: torch.Tensor) -> torch.Tensor:
        return (torch.pdist(rows) ** 2).mean() + rows.relu().sum()

    def gradient(batch: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        weight.requires_grad_()
        mine = batch[:2] if rank() == 0 else batch[2:]
        loss_of(gather(mine @ weight, [2, 3])).backward()
        assert weight.grad is not None
        return weight.grad

    whole = weight.clone().requires_grad_()
    loss_of(batch @ whole).backward()
    averaged = torch.stack(two_ranks(gradient, batch, weight)).mean(0)
    torch.testing.assert_close(averaged, whole.grad)


def test_a_rank_without_rows_takes_part(two_ranks: Any) -> None:
    def gradient() -> list[float]:
        rows = torch.ones(2 * rank(), 1, requires_grad=True)
        gather(rows, [0, 2]).sum().backward()
        assert rows.grad is not None
        return rows.grad.flatten().tolist()

    assert two_ranks(gradient) == [[], [2.0, 2.0]]


def test_barrier_waits_for_the_last(two_ranks: Any, tmp_path: Path) -> None:
    def meet(folder: Path) -> bool:
        import time

        if rank() == 0:
            time.sleep(0.5)
            (folder / "here").touch()
        barrier()
        return (folder / "here").exists()

    assert two_ranks(meet, tmp_path) == [True, True]
