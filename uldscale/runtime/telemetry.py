"""What a run tells Prometheus: every metric is declared here, once, and recorded by name.

In Ray actors and training workers values go out through the node's agent (Ray puts `ray_` before the name); elsewhere
through this process' own registry, which `serve` offers over HTTP.
"""

import difflib
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import prometheus_client
import ray
import ray.util.metrics

HEARTBEAT_SECONDS = 5.0
"""Ray's agent shows a gauge only while it is set again between its reports, which are ten seconds apart."""
BUCKETS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
"""Of all histograms, in seconds."""


@dataclass(frozen=True)
class Metric:
    """One declared metric."""

    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()


METRICS: Mapping[str, Metric] = {
    "uldscale_images_quarantined": Metric("gauge", "Images in the index that cannot be used."),
    "uldscale_images_extracted_total": Metric("counter", "Images whose features were written."),
    "uldscale_shards_committed_total": Metric("counter", "Shards of the feature store written and committed."),
    "uldscale_shards_missing": Metric("gauge", "Shards that are not committed yet."),
    "uldscale_shard_seconds": Metric("histogram", "Time to compute and write one shard."),
    "uldscale_extract_compute_seconds_total": Metric(
        "counter", "Time of all actors in the model; the rest is waiting."
    ),
    "uldscale_train_step": Metric("gauge", "Optimizer steps done in a stage.", ("stage",)),
    "uldscale_train_step_seconds": Metric("histogram", "Time of one optimizer step.", ("stage",)),
    "uldscale_train_loss": Metric("gauge", "Loss of the last logged step.", ("stage", "loss")),
    "uldscale_relabel_round": Metric("gauge", "Last round of pseudo-labels."),
    "uldscale_relabel_seconds": Metric("histogram", "Time to make one round of pseudo-labels."),
    "uldscale_label_churn_ratio": Metric("gauge", "Share of labels that changed since the round before."),
    "uldscale_keypoints_per_image": Metric("gauge", "Keypoints found per image in the last round."),
}

REGISTRY = prometheus_client.CollectorRegistry()
"""Series of this process when it is no Ray actor."""


def record(name: str, value: float, **labels: str) -> None:
    """Add to a counter, set a gauge or observe a value. Raises ValueError for an undeclared metric or other labels."""
    _check(name, labels)
    if _in_actor():
        _record_in_actor(name, value, labels)
    else:
        instrument = _local(name)
        _apply(METRICS[name], instrument.labels(**labels) if labels else instrument, value)


@cache
def serve(port: int) -> int:
    """Offer this process' series on a port (0: any free one) for as long as it lives; returns the port."""
    server, _ = prometheus_client.start_http_server(port, registry=REGISTRY)
    return int(server.server_port)


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
    getattr(instrument, verb)(value, **tags)


@cache
def _local(name: str) -> Any:
    metric = METRICS[name]
    if metric.kind == "histogram":
        return prometheus_client.Histogram(name, metric.help, metric.labels, registry=REGISTRY, buckets=BUCKETS)
    kind = prometheus_client.Counter if metric.kind == "counter" else prometheus_client.Gauge
    return kind(name, metric.help, metric.labels, registry=REGISTRY)


@cache
def _in_ray(name: str) -> Any:
    metric = METRICS[name]
    if metric.kind == "histogram":
        return ray.util.metrics.Histogram(name, metric.help, boundaries=list(BUCKETS), tag_keys=metric.labels)
    kind = ray.util.metrics.Counter if metric.kind == "counter" else ray.util.metrics.Gauge
    return kind(name, metric.help, tag_keys=metric.labels)


def _record_in_actor(name: str, value: float, labels: dict[str, str]) -> None:
    _apply(METRICS[name], _in_ray(name), value, tags=labels)
    if METRICS[name].kind == "gauge":
        _heartbeat()[name, tuple(labels.items())] = value


@cache
def _heartbeat() -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Gauges that a thread sets again and again, for as long as the process lives."""
    gauges: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}

    def beat() -> None:
        while True:
            time.sleep(HEARTBEAT_SECONDS)
            for (name, labels), value in list(gauges.items()):
                _in_ray(name).set(value, tags=dict(labels))

    threading.Thread(target=beat, name="gauges", daemon=True).start()
    return gauges
