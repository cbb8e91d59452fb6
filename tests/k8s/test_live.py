"""A run on a cluster with roles, submitted as a job, that loses an actor and two nodes: each actor is where its role is, the run
ends like one on a laptop, and every query of every dashboard has data."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from live import LiveCluster, Prometheus, live_cluster, wait_for
from outside import registry
from prometheus_client import start_http_server
from queries import of_alerts, of_dashboards

from uldscale.job import Job
from uldscale.pipeline import Pipeline
from uldscale.training.schedule import Stage

pytestmark = pytest.mark.cluster

ROLES = {
    "extract": {"count": 2, "node": "extract"},
    "train": {"node": "train", "threads": 1},
    "relabel": {"node": "relabel"},
    "locate": {"node": "extract"},
}
NEVER = {"ray_uldscale_items_given_up_total", "ray_uldscale_batches_halved_total"}
"""Counters of what did not happen here have no series."""


@pytest.fixture
def job(small: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """Long enough in extraction and in the first stage of training to lose something there."""
    small["name"], small["data"]["train"], small["data"]["test"] = "live", 40, 16
    small["extract"]["features"]["backbone"] = {"model": "tiny-ldm"}
    small["extract"]["store"]["rows_per_shard"] = 4
    small["train"]["checkpoint_every"] = 10
    small["train"]["bootstrap"] = {"steps": 150, "learning_rate": 1e-4}
    return {**small, "output": str(tmp_path / "runs")}


@pytest.fixture
def cluster() -> Iterator[LiveCluster]:
    # Sockets are below it, whose paths may not be long.
    with (
        tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder,
        live_cluster(Path(folder)) as found,
    ):
        yield found


@pytest.fixture
def prometheus(cluster: LiveCluster, tmp_path: Path) -> Iterator[Prometheus]:
    if not shutil.which("prometheus"):
        pytest.skip("no prometheus, which would watch the run")
    server, _ = start_http_server(0, "127.0.0.1", registry=registry())
    found = Prometheus(tmp_path, cluster.folder, [f"127.0.0.1:{server.server_port}"])
    yield found
    found.stop()
    server.shutdown()


@pytest.mark.timeout(1200)
def test_a_run_that_loses_an_actor_and_two_nodes(
    cluster: LiveCluster,
    prometheus: Prometheus,
    job: dict[str, Any],
    tmp_path: Path,
    content: Callable[[str], dict[str, bytes]],
) -> None:
    folder, root = tmp_path / "job", tmp_path / "runs/live"
    folder.mkdir()
    (folder / "job.yaml").write_text(yaml.safe_dump({**job, "runtime": ROLES}))
    start = time.time()
    run = cluster.submit(folder, "uldscale", "run", "job.yaml")
    wait_for(lambda: list(root.glob("store.zarr/commits/*.json")), run)
    cluster.kill_actor("_Actor")
    wait_for(lambda: len(list(root.glob("store.zarr/commits/*.json"))) > 3, run)
    cluster.lose_node("extract")
    wait_for(lambda: cluster.actors() and list(root.glob("checkpoints/*/state.json")), run)
    cluster.reclaim_node("train", lambda: saved_at_once(root, job))
    wait_for(lambda: (cluster.actors(), run.poll() is not None)[1], run)
    said = run.communicate()[0]
    assert run.returncode == 0, said
    assert cluster.seen == {"_Actor": {"extract"}, "RayTrainWorker": {"train"}, "_Service": {"relabel"}}
    assert "report: " in said
    require_same(root, job, tmp_path / "alone", content)
    require_data(prometheus, start)


def saved_at_once(root: Path, job: dict[str, Any]) -> bool:
    """Whether the first stage has a checkpoint where none is due: training was told that its node goes away."""
    train, folders = job["train"], root.glob(f"checkpoints/*-{Stage.BOOTSTRAP}-*")
    steps = [int(folder.name.rpartition("-")[2]) for folder in folders]
    return any(step % train["checkpoint_every"] for step in steps) and train["bootstrap"]["steps"] not in steps


def require_same(root: Path, job: dict[str, Any], folder: Path, content: Callable[[str], dict[str, bytes]]) -> None:
    """Store and methods of a run are those of one that nobody disturbed, in one process with as many threads."""
    pipeline = Pipeline(Job.model_validate({**job, "output": str(folder), "runtime": {**ROLES, "ray": False}}))
    pipeline.extract()
    pipeline.train()
    pipeline.evaluate()
    assert content(pipeline.run.store) == content(str(root / "store.zarr"))
    assert content(pipeline.run.methods) == content(str(root / "methods"))


def require_data(prometheus: Prometheus, start: float) -> None:
    """For every panel, and for every metric of an alert."""
    end = time.time()
    empty = [query for query in of_dashboards("live", end - start) if not prometheus.query(query.expr, start, end)]
    assert not empty
    metrics = set().union(*(query.metrics for query in of_alerts())) - NEVER
    series = [f'{metric}{{run="live"}}' if metric.startswith("ray_uldscale") else metric for metric in sorted(metrics)]
    assert [each for each in series if not prometheus.query(each, start, end)] == []
