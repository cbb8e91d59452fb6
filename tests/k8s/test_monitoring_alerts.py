"""Alerts: each fires when it should, on a healthy run none does, and each says what to do and where to look."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from manifests import ROOT
from queries import dashboards, of_alerts, rules

NAMES = [rule["alert"] for rule in rules()]
TIMES = [f"{minutes}m" for minutes in range(15, 241, 15)]
HEALTHY_RUNS_LACK = {"ray_uldscale_items_given_up_total"}
"""A counter begins with its first event, and of this one a single event is too much."""


@pytest.fixture(scope="module")
def cases() -> dict[str, Any]:
    """What promtool is to test, with all alerts in the healthy case."""
    document: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "alerts.yaml").read_text("utf-8"))
    document["tests"][0]["alert_rule_test"] = [{"eval_time": at, "alertname": name} for at in TIMES for name in NAMES]
    return document


def outcome(cases: dict[str, Any], alerts: list[dict[str, Any]], folder: Path) -> subprocess.CompletedProcess[str]:
    """What promtool says of the cases; skipped without it."""
    if not shutil.which("promtool"):
        pytest.skip("no promtool, which tests the rules of Prometheus")
    described = [{**rule, "annotations": {"description": rule["annotations"]["description"]}} for rule in alerts]
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "tested", "rules": described}]}), "utf-8")
    (folder / "alerts.yaml").write_text(yaml.safe_dump(cases), "utf-8")
    return subprocess.run(["promtool", "test", "rules", "alerts.yaml"], cwd=folder, capture_output=True, text=True)


def test_each_fires_and_none_on_a_healthy_run(cases: dict[str, Any], tmp_path: Path) -> None:
    done = outcome(cases, rules(), tmp_path)
    assert not done.returncode, done.stderr


def test_alerts_that_never_fire_would_be_seen(cases: dict[str, Any], tmp_path: Path) -> None:
    broken = [{**rule, "expr": "vector(1) > 2"} for rule in rules()]
    said = outcome(cases, broken, tmp_path).stderr
    assert all(f"name: {name}," in said for name in NAMES)


def test_an_alert_that_always_fires_would_be_seen(cases: dict[str, Any], tmp_path: Path) -> None:
    broken = [{**rules()[0], "expr": "vector(1)", "for": "0m"}, *rules()[1:]]
    assert "name: healthy" in outcome(cases, broken, tmp_path).stderr


def test_each_has_a_case(cases: dict[str, Any]) -> None:
    healthy, *firing = cases["tests"]
    assert [case["name"] for case in firing] == NAMES
    for case in firing:
        (expected,) = case["alert_rule_test"]
        assert expected["alertname"] == case["name"]
        assert len(expected["exp_alerts"]) == 1


def test_the_healthy_run_has_what_alerts_look_at(cases: dict[str, Any]) -> None:
    there = {re.match(r"\w+", series["series"])[0] for series in cases["tests"][0]["input_series"]}  # type: ignore[index]
    asked = {metric for query in of_alerts() for metric in query.metrics}
    assert asked - there == HEALTHY_RUNS_LACK


@pytest.mark.parametrize("rule", rules(), ids=NAMES)
def test_each_says_what_to_do_and_where_to_look(rule: dict[str, Any]) -> None:
    notes = rule["annotations"]
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert set(notes) == {"summary", "description", "dashboard", "runbook"}
    assert all(note.strip()[-1] in ".?" for name, note in notes.items() if name != "dashboard")
    assert notes["dashboard"] in {dashboard.uid for dashboard in dashboards()}


def test_names_are_unique() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert all(name.startswith("Uldscale") for name in NAMES)


def test_the_deadline_is_that_of_the_ray_job() -> None:
    job = yaml.safe_load((ROOT / "k8s/base/rayjob.yaml").read_text("utf-8"))
    (rule,) = (rule for rule in rules() if rule["alert"] == "UldscaleOutOfTime")
    assert rule["expr"].split()[-1] == str(job["spec"]["activeDeadlineSeconds"])
