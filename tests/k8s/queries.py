"""All queries of dashboards and alerts, with values instead of Grafana's variables, and what each needs to have any data."""

import re
import sys
from dataclasses import dataclass
from typing import Any

import yaml
from manifests import ROOT

MONITORING = ROOT / "k8s/monitoring"
sys.path.append(str(MONITORING))

from dashboard import Dashboard, read, variables, with_values  # noqa: E402

DASHBOARDS = ("run", "extraction", "training", "nodes")

NEEDS = {
    "DCGM": r"\bDCGM_",
    "KubeRay": r"\bkuberay_",
    "GPU": r"\bray_node_(gpus|gram)_",
    "failure": r"_(item_retries|items_given_up|actors_lost|train_restarts|batches_halved)_total",
}
"""What gives series that a healthy run on a machine without GPUs has none of; `outside.py` stands in for the first three."""


@dataclass(frozen=True)
class Query:
    """A query and where it is."""

    place: str
    """uid of a dashboard, or `alerts`."""
    name: str
    """Of the panel or the alert."""
    expr: str

    @property
    def needs(self) -> frozenset[str]:
        """Which of NEEDS it has no data without."""
        return frozenset(name for name, pattern in NEEDS.items() if re.search(pattern, self.expr))

    @property
    def metrics(self) -> frozenset[str]:
        """Names of the metrics in it."""
        return frozenset(
            re.findall(
                r"\b(?:ray|kuberay|DCGM)_\w+|\bup\b", re.sub(r'"[^"]*"|\b(by|on|ignoring) \([^)]*\)', "", self.expr)
            )
        )


def dashboards() -> list[Dashboard]:
    """All dashboards."""
    return [read(name) for name in DASHBOARDS]


def of_dashboards(run: str = "mine", seconds: float = 3600, cluster: str = ".*") -> list[Query]:
    """The queries of all panels for a run and a time range."""
    values = variables(run, seconds, cluster)
    return [
        Query(dashboard.uid, panel.title, with_values(query.expr, values))
        for dashboard in dashboards()
        for panel in dashboard.panels
        for query in panel.queries
    ]


def rules() -> list[dict[str, Any]]:
    """All alerts."""
    document = yaml.safe_load((MONITORING / "rules.yaml").read_text("utf-8"))
    return [rule for group in document["spec"]["groups"] for rule in group["rules"]]


def of_alerts() -> list[Query]:
    """The expressions of all alerts; of a healthy run none has data."""
    return [Query("alerts", rule["alert"], rule["expr"]) for rule in rules()]
