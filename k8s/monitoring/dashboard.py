"""A dashboard as it lies in `dashboards/`: its panels, and their queries with values for Grafana's variables."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "dashboards"


@dataclass(frozen=True)
class Query:
    """A query in PromQL with the legend of its series, in which `{{label}}` stands for a label's value."""

    expr: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """A panel; place and size are in units of Grafana's grid, which is 24 wide."""

    title: str
    kind: str
    unit: str
    x: int
    y: int
    width: int
    height: int
    queries: tuple[Query, ...]
    stacked: bool
    limits: tuple[tuple[float, str], ...]
    """(from which value on, colour), the first from minus infinity on."""
    none: str
    """What is said where there is no series."""


@dataclass(frozen=True)
class Dashboard:
    """A dashboard."""

    uid: str
    title: str
    panels: tuple[Panel, ...]


def read(name: str) -> Dashboard:
    """The dashboard of `dashboards/<name>.json`."""
    document = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    return Dashboard(document["uid"], document["title"], tuple(_panel(panel) for panel in document["panels"]))


def variables(run: str, seconds: float, cluster: str = ".*") -> dict[str, str]:
    """Values of the variables for a run and a time range of some seconds."""
    return {"$run": run, "$cluster": cluster, "$__rate_interval": "4m", "$__range": f"{seconds:.0f}s"}


def with_values(expr: str, values: Mapping[str, str]) -> str:
    """A query with values instead of variables."""
    for name, value in values.items():
        expr = expr.replace(name, value)
    return expr


def _panel(panel: dict[str, Any]) -> Panel:
    defaults, place = panel["fieldConfig"]["defaults"], panel["gridPos"]
    steps = defaults.get("thresholds", {}).get("steps", [])
    return Panel(
        panel["title"], panel["type"], defaults["unit"], place["x"], place["y"], place["w"], place["h"],
        tuple(Query(target["expr"], target["legendFormat"]) for target in panel["targets"]),
        stacked=defaults.get("custom", {}).get("stacking", {}).get("mode") == "normal",
        limits=tuple((float("-inf") if step["value"] is None else step["value"], step["color"]) for step in steps),
        none=defaults.get("noValue", "no data"),
    )  # fmt: skip
