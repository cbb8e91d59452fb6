"""What a run tells Prometheus: the metrics of `metrics.py`, recorded by name; every series carries the run.

Where there is a Ray, values of all processes go out through its agent on their node (which puts `ray_` before the name). What the
driver records is in its own registry, too, which `serve` offers over HTTP.
"""

import difflib
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from typing import Any

import prometheus_client
import ray
import ray.util.metrics

from uldscale.errors import ConfigError
from uldscale.runtime.metrics import METRICS, Metric

HEARTBEAT_SECONDS = 1.0
"""Ray's agent shows a gauge only while it is set again between two of its reports, by default ten seconds apart."""
LINGER_SECONDS = 30.0
"""Ray's agent reports every ten seconds, and Prometheus fetches every fifteen or so."""
ALL = "0.0.0.0"
"""All addresses of this machine."""
BUCKETS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
"""Of all histograms, in seconds."""


REGISTRY = prometheus_client.CollectorRegistry()
"""Series of this process when it is no Ray actor."""


RUN = "ULDSCALE_RUN"
"""Variable that names the run of a process."""

_RAY_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""In which Ray tells the command of a job what job it is."""

_Key = tuple[str, tuple[tuple[str, str], ...]]


def use_run(name: str) -> None:
    """Whatever this process, and those that it starts, record from now on belongs to this run."""
    os.environ[RUN] = name


def variables() -> dict[str, str]:
    """Environment of the processes that this one starts."""
    return {RUN: os.environ.get(RUN, "")}


def tell_run(data: str) -> None:
    """What runs: its version, its kind of data, and what submitted it to Ray, if anything did."""
    submission = json.loads(os.environ.get(_RAY_JOB, "{}")).get("metadata", {}).get("job_submission_id", "")
    record("uldscale_run_info", 1, version=version("uldscale"), data=data, submission=submission)


def record(name: str, value: float, **labels: str) -> None:
    """Add to a counter, set a gauge or observe a value. Raises ValueError for an undeclared metric or other labels."""
    _check(name, labels)
    tags = {"run": os.environ.get(RUN, ""), **labels}
    if METRICS[name].kind == "gauge":
        _heartbeat()[name, tuple(tags.items())] = value
    if not _in_actor():
        _apply(METRICS[name], _local(name).labels(**tags), value)
    if ray.is_initialized():
        _apply(METRICS[name], _in_ray(name), value, tags=tags)


@contextmanager
def timing(name: str, **labels: str) -> Iterator[None]:
    """Adds the seconds of a block to a counter, or observes them."""
    start = time.monotonic()
    try:
        yield
    finally:
        record(name, time.monotonic() - start, **labels)


@cache
def serve(port: int, host: str) -> int:
    """Offer this process' series on a port (0: any free one) of an address ("": all) for as long as it lives; returns the port.

    Raises ConfigError where that cannot be.
    """
    try:
        server, _ = prometheus_client.start_http_server(port, host or ALL, registry=REGISTRY)
    except OSError as error:
        raise ConfigError(
            f"metrics cannot be offered at {host}:{port}: {error}; set runtime.metrics_port and metrics_host to others"
        ) from error
    return int(server.server_port)


def linger() -> None:
    """Live on until the last values have gone through Ray's agent and Prometheus has had time to fetch them.

    Only in a cluster: on one machine hardly anybody looks, and results are in files as well.
    """
    if ray.is_initialized() and "RAY_ADDRESS" in os.environ:
        time.sleep(LINGER_SECONDS)


def _check(name: str, labels: Mapping[str, str]) -> None:
    if name not in METRICS:
        near = difflib.get_close_matches(name, METRICS, n=1)
        raise ValueError(f"metric {name!r} is not declared" + (f"; did you mean {near[0]!r}?" if near else ""))
    if set(labels) != set(METRICS[name].labels):
        raise ValueError(f"metric {name!r} has labels {METRICS[name].labels}, got {tuple(labels)}")


def _in_actor() -> bool:
    return ray.is_initialized() and ray.get_runtime_context().get_actor_id() is not None


def _apply(metric: Metric, instrument: Any, value: float, **tags: Any) -> None:
    verb = {"counter": "inc", "gauge": "set", "histogram": "observe"}[metric.kind]
    # Ray refuses to add nothing.
    if verb != "inc" or value > 0:
        getattr(instrument, verb)(value, **tags)


@cache
def _local(name: str) -> Any:
    metric, labels = METRICS[name], ("run", *METRICS[name].labels)
    if metric.kind == "histogram":
        return prometheus_client.Histogram(name, metric.help, labels, registry=REGISTRY, buckets=BUCKETS)
    kind = prometheus_client.Counter if metric.kind == "counter" else prometheus_client.Gauge
    return kind(name, metric.help, labels, registry=REGISTRY)


@cache
def _in_ray(name: str) -> Any:
    metric, labels = METRICS[name], ("run", *METRICS[name].labels)
    if metric.kind == "histogram":
        return ray.util.metrics.Histogram(name, metric.help, boundaries=list(BUCKETS), tag_keys=labels)
    kind = ray.util.metrics.Counter if metric.kind == "counter" else ray.util.metrics.Gauge
    return kind(name, metric.help, tag_keys=labels)


@cache
def _heartbeat() -> dict[_Key, float]:
    """Gauges that a thread sets in Ray again and again, for as long as the process lives, also those from before there was a Ray."""
    gauges: dict[_Key, float] = {}

    def beat() -> None:
        while True:
            time.sleep(HEARTBEAT_SECONDS)
            for (name, tags), value in list(gauges.items()):
                if ray.is_initialized():
                    _in_ray(name).set(value, tags=dict(tags))

    threading.Thread(target=beat, name="gauges", daemon=True).start()
    return gauges
