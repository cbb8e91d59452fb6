"""Dashboards: made by their source, and every query of theirs and of the alerts asks for what is declared."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from outside import SERIES
from queries import DASHBOARDS, MONITORING, NEEDS, Query, dashboards, of_alerts, of_dashboards

from uldscale.runtime.metrics import METRICS

from dashboard import Dashboard  # isort: skip  (queries says where it is)

OURS = "ray_uldscale_"
SUFFIXES = {"counter": ("",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
DECLARED = {
    f"{OURS}{name.removeprefix('uldscale_')}{suffix}": {*metric.labels, "run", "le"}
    for name, metric in METRICS.items()
    for suffix in SUFFIXES[metric.kind]
}
"""Labels by name, as Prometheus has them."""
AROUND = {"ray_io_cluster", "namespace", "SessionName"}
"""Labels that Ray and the PodMonitor add to all series."""
ALL = [*of_dashboards(), *of_alerts()]


def test_they_are_what_their_source_makes(tmp_path: Path) -> None:
    pytest.importorskip("grafana_foundation_sdk", reason="no grafana-foundation-sdk, which makes the dashboards")
    subprocess.run([sys.executable, str(MONITORING / "dashboards"), str(tmp_path)], check=True)
    made = {file.name: file.read_text("utf-8") for file in tmp_path.iterdir()}
    assert made == {file.name: file.read_text("utf-8") for file in (MONITORING / "dashboards").glob("*.json")}
    assert set(made) == {f"{name}.json" for name in DASHBOARDS}


@pytest.mark.parametrize(("name", "dashboard"), [*zip(DASHBOARDS, dashboards(), strict=True)], ids=DASHBOARDS)
def test_panels_are_explained_and_side_by_side(name: str, dashboard: Dashboard) -> None:
    document = json.loads((MONITORING / f"dashboards/{name}.json").read_text("utf-8"))
    assert [variable["name"] for variable in document["templating"]["list"]] == ["datasource", "cluster", "run"]
    panels = dashboard.panels
    assert len({panel.title for panel in panels}) == len(panels)
    for panel in document["panels"]:
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel.x, panel.x + panel.width)
        for y in range(panel.y, panel.y + panel.height)
    ]
    assert len(set(cells)) == len(cells)
    assert all(x < 24 for x, _ in cells)


def test_each_parses(tmp_path: Path) -> None:
    if not shutil.which("promtool"):
        pytest.skip("no promtool, which parses queries")
    recorded = [{"record": f"q:{number}", "expr": query.expr} for number, query in enumerate(ALL)]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": recorded}]}), "utf-8")
    done = subprocess.run(["promtool", "check", "rules", "rules.yaml"], cwd=tmp_path, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    assert f"{len(ALL)} rules found" in done.stdout


@pytest.mark.parametrize("query", ALL, ids=lambda query: f"{query.place}-{query.name}")
def test_each_asks_for_what_is_declared(query: Query) -> None:
    assert "$" not in re.sub(r'"\$1"', "", query.expr)
    assert query.metrics
    for metric in query.metrics:
        assert not metric.startswith(OURS) or metric in DECLARED
    if all(metric in DECLARED for metric in query.metrics):
        assert labels(query.expr) <= set.union(AROUND, *(DECLARED[metric] for metric in query.metrics))


def labels(expr: str) -> set[str]:
    """All labels that a query matches, groups by or joins on."""
    grouped = re.findall(r"\b(?:by|on|ignoring) \(([^)]*)\)", expr)
    return {*re.findall(r"(\w+)\s*=?[=~!]~?\s*\"", expr), *re.findall(r"\w+", " ".join(grouped))}


def test_another_label_would_be_seen() -> None:
    assert labels('max by (stage, role) (a{run="x",state=~"y"}) / on (tap) b') == {
        "stage",
        "role",
        "run",
        "state",
        "tap",
    }


@pytest.mark.parametrize("name", list(METRICS))
def test_all_that_is_declared_is_shown_or_watched(name: str) -> None:
    names = {f"{OURS}{name.removeprefix('uldscale_')}{suffix}" for suffix in SUFFIXES[METRICS[name].kind]}
    assert any(names & query.metrics for query in ALL)


def test_the_legend_names_labels_that_are_there() -> None:
    for dashboard in dashboards():
        for panel in dashboard.panels:
            for query in panel.queries:
                assert set(re.findall(r"{{(\w+)}}", query.legend)) <= labels(query.expr)


def test_series_from_outside_are_those_that_are_asked_for() -> None:
    """With the labels by which they are asked for."""
    outside = {name for name in NEEDS if name != "failure"}
    asked = {query for query in ALL if query.needs & outside}
    pattern = re.compile("|".join(NEEDS[name] for name in outside))
    assert {metric for query in asked for metric in query.metrics if pattern.search(metric)} == set(SERIES)
    for query in asked:
        known = set().union(*(SERIES[metric][0] for metric in query.metrics if metric in SERIES))
        if query.metrics <= SERIES.keys():
            assert labels(query.expr) <= known | AROUND
