"""What all dashboards have: rows of panels, the variables that choose a run and its clusters, links to each other."""

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders.dashboard import Dashboard, DashboardLink, DatasourceVariable, QueryVariable
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from panels import DATASOURCE, Builder

WIDTH = 24
"""Of Grafana's grid."""
TAG = "uldscale"


@dataclass(frozen=True)
class Row:
    """Panels side by side, all as wide and as high, in units of Grafana's grid."""

    height: int
    panels: Sequence[Builder]


def framed(uid: str, title: str, about: str, *rows: Row) -> Dashboard:
    """A dashboard of rows."""
    dashboard = Dashboard(f"uldscale: {title}").uid(uid).description(about).tags([TAG]).editable()
    dashboard.time("now-6h", "now").refresh("30s").timezone("browser").tooltip(DashboardCursorSync.CROSSHAIR)
    dashboard.variables([_datasource(), _cluster(), _run()]).link(_others())
    number = 0
    for row in rows:
        for panel in row.panels:
            number += 1
            dashboard.with_panel(panel.id(number).height(row.height).span(WIDTH // len(row.panels)))
    return dashboard


def _datasource() -> DatasourceVariable:
    return DatasourceVariable("datasource").label("Prometheus").type("prometheus")


def _cluster() -> QueryVariable:
    """RayClusters: each retry of a RayJob has its own, so All is the rule."""
    chosen = _chosen("cluster", "RayCluster", "label_values(ray_uldscale_run_info, ray_io_cluster)")
    return chosen.include_all(True).all_value(".*").current(VariableOption(True, "All", "$__all"))


def _run() -> QueryVariable:
    return _chosen("run", "Run", 'label_values(ray_uldscale_run_info{ray_io_cluster=~"$cluster"}, run)')


def _chosen(name: str, label: str, query: str) -> QueryVariable:
    variable = QueryVariable(name).label(label).datasource(DATASOURCE).query(query)
    return variable.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).sort(VariableSort.ALPHABETICAL_ASC)


def _others() -> DashboardLink:
    link = DashboardLink(TAG).type(DashboardLinkType.DASHBOARDS).tags([TAG])
    return link.include_vars(True).keep_time(True)
