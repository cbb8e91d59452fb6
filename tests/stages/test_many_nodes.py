"""Extraction on a cluster of three nodes, one of which dies: the store is that of one machine, byte for byte."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.cluster_utils import Cluster

from uldscale.job import Job
from uldscale.pipeline import Pipeline


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A head that takes no work, and three nodes for one actor each."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield found
    found.shutdown()


def commits(root: str) -> int:
    return len(list(Path(root).glob("commits/*.json")))


def wait_for(reached: Any, process: subprocess.Popen[str]) -> None:
    while not reached():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)


def test_a_node_dies(
    settings: dict[str, Any], tmp_path: Path, cluster: Cluster, content: Callable[[str], dict[str, bytes]]
) -> None:
    settings["data"] |= {"train": 60, "test": 12}
    settings["extract"]["store"] = {"rows_per_shard": 2}
    settings["runtime"] |= {"ray": True, "extract": {"count": 3}}
    nodes = [cluster.add_node(num_cpus=1) for _ in range(3)]
    job = tmp_path / "job.yaml"
    job.write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-c", "from uldscale.cli import main; main()", "extract", str(job)]
    environment = os.environ | {"RAY_ADDRESS": cluster.address}
    store = f"{tmp_path}/runs/small/store.zarr"
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: commits(store) >= 3, process)
        cluster.remove_node(nodes[0], allow_graceful=False)
        _, said = process.communicate()
    assert process.returncode == 0, said
    assert commits(store) == 36
    settings["runtime"] |= {"ray": False}
    alone = Pipeline(Job.model_validate(settings | {"output": f"{tmp_path}/alone"}))
    alone.extract()
    assert content(alone.run.store) == content(store)
