"""Training goes on with fewer workers when a node is lost, and with all of them when one has come."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from ray.cluster_utils import Cluster

from uldscale.runtime.engine import read_weights

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

STEPS = 200

RUN = f"""
import sys, time
from functools import partial
from pathlib import Path
import torch
from torch import nn
from uldscale import files
from uldscale.runtime import cluster, trainer
from uldscale.runtime.engine import EngineConfig, Rate, make_engine, read_weights
from uldscale.runtime.ranks import barrier, rank, world_size
from uldscale.runtime.roles import RuntimeConfig
from uldscale.runtime.stopping import Stopping
from uldscale.store.sampling import share

FOLDER = sys.argv[1]

def loop(config):
    torch.manual_seed(0)
    engine = make_engine(nn.Linear(4, 1), EngineConfig(), Rate(0.1, 2, 1000, 0))
    if saved := files.names(files.join(FOLDER, "checkpoints")):
        engine.load(files.join(FOLDER, "checkpoints", saved[-1]))
    for step in range(engine.steps, {STEPS}):
        batch = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        mine = batch[torch.from_numpy(share(torch.arange(8).numpy(), rank(), world_size()))]
        engine.step(engine(mine).square().mean())
        if not config.get("alone"):
            time.sleep(0.2)
            if rank() == 0:
                (Path(FOLDER) / f"world-{{world_size()}}-{{step:04d}}").touch()
        if (step + 1) % 10 == 0:
            engine.save(files.join(FOLDER, "checkpoints", f"{{step:03d}}"))
            barrier()

if sys.argv[2:] == ["alone"]:
    loop({{"alone": True}})
elif __name__ == "__main__":
    trainer.GROWTH_SECONDS = 2.0
    runtime = RuntimeConfig.model_validate({{"train": {{"count": 2, "least": 1, "cpus": 1, "threads": 1}}}})
    cluster.connect(runtime)
    trainer.fit(loop, {{}}, storage=FOLDER + "/workers", name="train", runtime=runtime,
        marks=partial(files.names, FOLDER + "/checkpoints"), stopping=Stopping(FOLDER + "/stop"))
"""


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A head that takes no training, and two nodes for one worker each."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield found
    found.shutdown()


def wait_for(reached: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 400
    while not reached():
        assert process.poll() is None, process.communicate()[1][-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.1)


def steps(folder: Path, world: int) -> list[int]:
    return sorted(int(path.name.rpartition("-")[2]) for path in folder.glob(f"world-{world}-*"))


def test_two_workers_then_one_then_two(cluster: Cluster, tmp_path: Path) -> None:
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    script = tmp_path / "run.py"
    script.write_text(RUN)
    environment = os.environ | {"RAY_ADDRESS": cluster.address}
    command = [sys.executable, str(script), str(tmp_path)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: len(steps(tmp_path, 2)) > 12, process)
        cluster.remove_node(nodes[0], allow_graceful=False)
        wait_for(lambda: len(steps(tmp_path, 1)) > 12, process)
        again = steps(tmp_path, 1)[-1]
        cluster.add_node(num_cpus=1)
        wait_for(lambda: steps(tmp_path, 2)[-1] > again, process)
        _, said = process.communicate()
    assert process.returncode == 0, said[-3000:]
    alone = tmp_path / "alone"
    subprocess.run([sys.executable, str(script), str(alone), "alone"], check=True)
    last = f"checkpoints/{STEPS - 1:03d}"
    torch.testing.assert_close(read_weights(str(tmp_path / last)), read_weights(str(alone / last)))
    assert set(steps(tmp_path, 1)) | set(steps(tmp_path, 2)) == set(range(STEPS))
