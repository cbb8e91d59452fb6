"""Metrics as Prometheus sees them: from this process and from a real Ray actor."""

import time
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
import ray
from prometheus_client.parser import text_string_to_metric_families

from uldscale.errors import ConfigError
from uldscale.runtime import telemetry
from uldscale.runtime.roles import Role, RuntimeConfig
from uldscale.runtime.telemetry import METRICS, record, serve, use_run

Samples = dict[str, list[Any]]


def scrape(port: int) -> Samples:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
        families = list(text_string_to_metric_families(page.read().decode()))
    samples: Samples = {}
    for family in families:
        for sample in family.samples:
            samples.setdefault(sample.name, []).append(sample)
    return samples


def value(samples: Samples, name: str, labels: dict[str, str]) -> float:
    """Of the sample of this run with these labels; 0 where there is none yet."""
    return sum(sample.value for sample in samples.get(name, []) if sample.labels == {"run": "mine", **labels})


def wait_for(samples: Callable[[], Samples], *names: str) -> Samples:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if set(names) <= (found := samples()).keys():
            return found
        time.sleep(0.5)
    raise AssertionError(f"{names} were never there")


@pytest.fixture(scope="module")
def port() -> int:
    return serve(0, "127.0.0.1")


def test_names_and_labels_are_prometheus_own() -> None:
    for name, metric in METRICS.items():
        assert name.startswith("uldscale_")
        assert name.endswith("_total") == (metric.kind == "counter")
        assert metric.help.endswith(".")
        assert "run" not in metric.labels


def test_a_port_that_is_taken_is_one_line(port: int) -> None:
    with pytest.raises(
        ConfigError, match=rf"metrics cannot be offered at 127.0.0.1:{port}: .*; set runtime.metrics_port"
    ):
        serve(port, "127.0.0.1")


def test_no_address_is_all_of_them() -> None:
    assert scrape(serve(0, "")) is not None


def test_the_driver_serves_what_it_recorded(port: int) -> None:
    """Whatever this process has recorded before; every series has the run."""
    use_run("mine")
    before = scrape(port)
    record("uldscale_shards_committed_total", 2)
    record("uldscale_shards_committed_total", 1)
    record("uldscale_train_loss", 0.5, stage="bootstrap", loss="detector")
    record("uldscale_train_loss", 0.25, stage="bootstrap", loss="detector")
    record("uldscale_shard_seconds", 2.5)
    after = scrape(port)

    def gained(name: str, **labels: str) -> float:
        return value(after, name, labels) - value(before, name, labels)

    assert gained("uldscale_shards_committed_total") == 3
    assert value(after, "uldscale_train_loss", {"stage": "bootstrap", "loss": "detector"}) == 0.25
    assert gained("uldscale_shard_seconds_sum") == 2.5
    assert gained("uldscale_shard_seconds_bucket", le="3.0") == 1


def test_what_is_not_declared_is_an_error() -> None:
    with pytest.raises(ValueError, match="'uldscale_train_los' is not declared; did you mean 'uldscale_train_loss'"):
        record("uldscale_train_los", 1.0)
    with pytest.raises(ValueError, match=r"has labels \('stage', 'loss'\), got \('stage',\)"):
        record("uldscale_train_loss", 1.0, stage="bootstrap")
    with pytest.raises(ValueError, match=r"has labels \(\), got \('stage',\)"):
        record("uldscale_relabel_round", 1.0, stage="bootstrap")


def test_an_actor_reports_through_the_port_of_its_node(runtime: RuntimeConfig) -> None:
    class Reporter:
        def report(self) -> None:
            record("uldscale_images_extracted_total", 7)
            record("uldscale_stage_done", 40, stage="d_uld")
            record("uldscale_relabel_seconds", 0.2, stage="d_uld")

    use_run("mine")
    reporter = ray.remote(Reporter).options(**Role(cpus=0).options()).remote()
    ray.get(reporter.report.remote())
    # What the process that leads the run says goes the same way, also what it said before.
    record("uldscale_shards_missing", 3)
    node = ray.nodes()[0]["MetricsExportPort"]
    found = wait_for(lambda: scrape(node), "ray_uldscale_stage_done", "ray_uldscale_shards_missing")
    assert "ray_uldscale_relabel_seconds_bucket" in found
    assert found["ray_uldscale_images_extracted_total"][0].value == 7
    (step,) = [sample for sample in found["ray_uldscale_stage_done"] if sample.labels["stage"] == "d_uld"]
    assert (step.value, step.labels["run"]) == (40, "mine")
    (missing,) = [sample for sample in found["ray_uldscale_shards_missing"] if sample.labels["run"] == "mine"]
    assert missing.value == 3
    here = {sample.name for family in telemetry.REGISTRY.collect() for sample in family.samples}
    assert "uldscale_relabel_seconds_sum" not in here
