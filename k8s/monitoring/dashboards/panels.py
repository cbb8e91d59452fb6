"""Kinds of panels, and the PromQL that they are made of; the files beside it say what each dashboard shows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from grafana_foundation_sdk.builders import bargauge, stat, statetimeline, timeseries
from grafana_foundation_sdk.builders.common import (
    GraphThresholdsStyleConfig,
    ReduceDataOptions,
    StackingConfig,
    VizLegendOptions,
    VizTooltipOptions,
)
from grafana_foundation_sdk.builders.dashboard import FieldColor, ThresholdsConfig
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.cog.builder import Builder as Building
from grafana_foundation_sdk.cog.variants import Dataquery as AnyQuery
from grafana_foundation_sdk.models.common import (
    BigValueGraphMode,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import DataSourceRef, FieldColorModeId, Threshold, ThresholdsMode

DATASOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
FINEST = "1m"
"""Ray reports every 10 s, training every few steps: a rate over less than four minutes would show that rhythm."""

Builder = timeseries.Panel | stat.Panel | bargauge.Panel | statetimeline.Panel
Some = TypeVar("Some", timeseries.Panel, stat.Panel, bargauge.Panel, statetimeline.Panel)

Limits = Sequence[tuple[float | None, str]]
"""(from which value on, colour), the first from None on."""
PLAIN: Limits = ((None, "blue"),)
NONE_IS_GOOD: Limits = ((None, "green"), (1, "red"))
MUCH_IS_GOOD: Limits = ((None, "red"), (0.1, "orange"), (0.2, "green"))
"""Of a share."""


@dataclass(frozen=True)
class Query:
    """A query in PromQL; `{{label}}` in the legend stands for the value of a label."""

    expr: str
    legend: str = ""


def of_run(name: str, *matchers: str) -> str:
    """Series `uldscale_<name>` of the chosen run."""
    return of_cluster(f"uldscale_{name}", 'run="$run"', *matchers)


def of_cluster(name: str, *matchers: str) -> str:
    """Series of Ray in the chosen clusters. Where Prometheus has no label `ray_io_cluster`, All matches."""
    chosen = ",".join(('ray_io_cluster=~"$cluster"', *matchers))
    return f"ray_{name}{{{chosen}}}"


def newest(gauge: str, *by: str) -> str:
    """A gauge by labels; of a process that has just been replaced there may be two series."""
    return f"max by ({', '.join(by)}) ({gauge})"


def last(gauge: str, *by: str) -> str:
    """A gauge as it was last, also after the process that set it has ended."""
    return newest(f"last_over_time({gauge}[$__range])", *by)


def total(counter: str, *by: str) -> str:
    """A counter of all processes of the time range, also of those that have ended; 0 where it never counted anything."""
    nothing = f'label_replace(vector(0), "{by[0]}", "all", "", "")'
    return f"sum by ({', '.join(by)}) (last_over_time({counter}[$__range])) or on () {nothing}"


def rate(counter: str, *by: str) -> str:
    """How much a counter of all processes grows a second."""
    return f"sum by ({', '.join(by)}) (rate({counter}[$__rate_interval]))"


def shares(counter: str, label: str) -> str:
    """How the growth of a counter divides among the values of a label."""
    return f"{rate(counter, label)} / ignoring ({label}) group_left () {rate(counter)}"


def quantile(part: float, histogram: str, *by: str) -> str:
    """A quantile of a histogram of all processes; `histogram` is the series of its buckets."""
    return f"histogram_quantile({part}, {rate(histogram, *by, 'le')})"


def lines(
    title: str, about: str, unit: str, *queries: Query, stacked: bool = False, limits: Limits = ()
) -> timeseries.Panel:
    """Values over time, none of them negative; shares end at 1."""
    panel = _begun(timeseries.Panel(), title, about, unit).targets(_targets(queries, "range"))
    panel.min(0).line_width(1).fill_opacity(60 if stacked else 8).show_points(VisibilityMode.AUTO)
    panel.color_scheme(FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC))
    panel.tooltip(VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING)).legend(_legend())
    if stacked:
        panel.stacking(StackingConfig().mode(StackingMode.NORMAL).group("A"))
    if unit == "percentunit":
        panel.max(1)
    if limits:
        panel.thresholds(_thresholds(limits))
        panel.thresholds_style(GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED))
    return panel


def figures(title: str, about: str, unit: str, *queries: Query, limits: Limits = PLAIN, none: str = "-") -> stat.Panel:
    """What holds now, in large figures; `none` where there is no series."""
    panel = _begun(stat.Panel(), title, about, unit).targets(_targets(queries, "instant")).no_value(none)
    return panel.thresholds(_thresholds(limits)).graph_mode(BigValueGraphMode.NONE).reduce_options(_last())


def bars(title: str, about: str, unit: str, *queries: Query, limits: Limits = PLAIN) -> bargauge.Panel:
    """What holds now, a bar for each series."""
    panel = _begun(bargauge.Panel(), title, about, unit).targets(_targets(queries, "instant")).min(0)
    return panel.thresholds(_thresholds(limits)).orientation(VizOrientation.HORIZONTAL).reduce_options(_last())


def periods(title: str, about: str, *queries: Query, limits: Limits) -> statetimeline.Panel:
    """When each series had which value; a row for each."""
    panel = _begun(statetimeline.Panel(), title, about, "none").targets(_targets(queries, "range"))
    panel.show_value(VisibilityMode.NEVER).legend(VizLegendOptions().show_legend(False))
    return panel.thresholds(_thresholds(limits)).color_scheme(FieldColor().mode(FieldColorModeId.THRESHOLDS))


def _begun(panel: Some, title: str, about: str, unit: str) -> Some:
    return panel.title(title).description(about).datasource(DATASOURCE).unit(unit)


def _targets(queries: Sequence[Query], kind: str) -> list[Building[AnyQuery]]:
    return [_target(query, name, kind) for query, name in zip(queries, "ABCDEFGH", strict=False)]


def _target(query: Query, name: str, kind: str) -> Dataquery:
    target = Dataquery().ref_id(name).expr(query.expr).interval(FINEST).datasource(DATASOURCE)
    target.legend_format(query.legend or "__auto")
    return target.instant() if kind == "instant" else target.range()


def _thresholds(limits: Limits) -> ThresholdsConfig:
    steps = [Threshold(value=value, color=color) for value, color in limits]
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def _legend() -> VizLegendOptions:
    return VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM).show_legend(True)


def _last() -> ReduceDataOptions:
    return ReduceDataOptions().calcs(["lastNotNull"]).values(False)
