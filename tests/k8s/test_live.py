"""A run on a cluster with roles, submitted as a job, that loses an actor and a node: each actor is where its role is, the run ends
like one on a laptop, and every query of every dashboard has data."""

import shutil
import tempfile
import time
from collections.abc import Iterator
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

STAGE = {"steps": 4, "learning_rate": 1e-3}
LABELLED = {**STAGE, "relabel_every": 2}
JOB: dict[str, Any] = {
    "name": "live",
    "data": {"kind": "faces3d", "train": 40, "test": 16, "size": 64, "roi": {"context": 0.1}},
    "extract": {
        "features": {"backbone": {"model": "tiny-ldm"}, "timesteps": [50], "codec": {"channels": 8, "sample": 8}},
        "views": {"count": 2},
        "store": {"rows_per_shard": 4},
    },
    "zero_shot": {"fit_images": 8, "fit_pixels": 20, "pixels": 30},
    "train": {
        "network": {
            "grid": 16,
            "aggregator": {"hidden": 8, "width": 12, "upsample_first": False},
            "heads": {"descriptor": 8},
            "vae": {"latent": 6, "width": 4},
        },
        "keypoints": {"minimum": 6},
        "clusters": {"landmarks": 3, "poses": 2},
        "batch": 4,
        "warmup_steps": 2,
        "checkpoint_every": 10,
        "log_every": 1,
        "bootstrap": {"steps": 60, "learning_rate": 1e-4},
        "d_uld": LABELLED,
        "d_uld_pose_proxy": STAGE,
        "d_uld_pp": LABELLED,
    },
}
ROLES = {
    "extract": {"count": 2, "node": "extract"},
    "train": {"node": "train", "threads": 1},
    "relabel": {"node": "relabel"},
    "locate": {"node": "extract"},
}
NEVER = {"ray_uldscale_items_given_up_total", "ray_uldscale_batches_halved_total"}
"""Counters of what did not happen here have no series."""


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
def test_a_run_that_loses_an_actor_and_a_node(cluster: LiveCluster, prometheus: Prometheus, tmp_path: Path) -> None:
    folder, root = tmp_path / "job", tmp_path / "runs/live"
    folder.mkdir()
    (folder / "job.yaml").write_text(yaml.safe_dump({**JOB, "output": str(tmp_path / "runs"), "runtime": ROLES}))
    start = time.time()
    run = cluster.submit(folder, "uldscale", "run", "job.yaml")
    wait_for(lambda: list(root.glob("store.zarr/commits/*.json")), run)
    cluster.kill_actor("_Actor")
    wait_for(lambda: cluster.actors() and list(root.glob("checkpoints/*/state.json")), run)
    cluster.lose_node("train")
    wait_for(lambda: (cluster.actors(), run.poll() is not None)[1], run)
    said = run.communicate()[0]
    assert run.returncode == 0, said
    assert cluster.seen == {"_Actor": {"extract"}, "RayTrainWorker": {"train"}, "_Service": {"relabel"}}
    assert "report: " in said
    require_same(root, tmp_path)
    require_data(prometheus, start)


def require_same(root: Path, folder: Path) -> None:
    """The methods of a run are those of one that nobody disturbed, in one process."""
    alone = {"ray": False, "train": {"threads": 1}}
    pipeline = Pipeline(Job.model_validate({**JOB, "output": str(folder / "alone"), "runtime": alone}))
    pipeline.extract()
    pipeline.train()
    pipeline.evaluate()
    for name in sorted(path.name for path in (root / "methods").iterdir()):
        for file in ("predictions.parquet", "probe.safetensors"):
            assert (root / "methods" / name / file).read_bytes() == (
                folder / f"alone/live/methods/{name}/{file}"
            ).read_bytes()


def require_data(prometheus: Prometheus, start: float) -> None:
    """For every panel, and for every metric of an alert."""
    end = time.time()
    empty = [query for query in of_dashboards("live", end - start) if not prometheus.query(query.expr, start, end)]
    assert not empty
    metrics = set().union(*(query.metrics for query in of_alerts())) - NEVER
    series = [f'{metric}{{run="live"}}' if metric.startswith("ray_uldscale") else metric for metric in sorted(metrics)]
    assert [each for each in series if not prometheus.query(each, start, end)] == []
