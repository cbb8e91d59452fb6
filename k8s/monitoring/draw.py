"""Draws a dashboard as a picture, for those without Grafana.

    python k8s/monitoring/draw.py --prometheus http://localhost:9090 --run faces --hours 6 --out run.png

Values come from Prometheus' HTTP API, panels are where Grafana has them.
"""

import argparse
import json
import math
import re
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

import matplotlib.pyplot as plt
from dashboard import Dashboard, Panel, read, variables, with_values
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LinearLocator, MaxNLocator

UNIT = 0.62
"""Inches of a row of Grafana's grid."""
BELOW, ABOVE = 1.7, 0.8
"""Such rows for the legend of a panel, and for its title."""
POINTS_AN_INCH = 72
POINTS = 300
"""Of a line."""
BYTES = ((2.0**40, " TiB"), (2.0**30, " GiB"), (2.0**20, " MiB"), (2.0**10, " KiB"), (1.0, " B"))
NO_SCALE = ((1.0, ""),)
SCALES: Mapping[str, Sequence[tuple[float, str]]] = {
    "percentunit": ((0.01, " %"),),
    "percent": ((1.0, " %"),),
    "s": ((86400.0, " d"), (3600.0, " h"), (60.0, " min"), (1.0, " s")),
    "bytes": BYTES,
    "Bps": tuple((size, f"{name}/s") for size, name in BYTES),
}
"""Sizes and names of what a unit of Grafana is said in, the largest first."""
COLORS = {"green": "#56a64b", "orange": "#ff9830", "red": "#e02f44", "blue": "#3274d9", "transparent": "#00000000"}


@dataclass(frozen=True)
class Series:
    """Values at times in Unix seconds, and what the legend says of them."""

    legend: str
    times: list[float]
    values: list[float]

    def with_gaps(self, step: float) -> "Series":
        """The same with NaN from a step after each value that has none after it to a step before the next."""
        known = dict(zip(self.times, self.values, strict=True))
        gaps = [(at, until) for at, until in pairwise(self.times) if until - at > 1.5 * step]
        times = sorted({*self.times, *(at + step for at, _ in gaps), *(until - step for _, until in gaps)})
        return Series(self.legend, times, [known.get(at, math.nan) for at in times])


@dataclass(frozen=True)
class Source:
    """A Prometheus, and what of it is drawn: a run in a time range in Unix seconds."""

    url: str
    run: str
    start: float
    end: float

    def series(self, panel: Panel) -> list[Series]:
        """All series of a panel's queries."""
        values = variables(self.run, self.end - self.start)
        found = []
        for query in panel.queries:
            for result in self._ask(with_values(query.expr, values), now=panel.kind in ("stat", "bargauge")):
                points = [(float(at), float(value)) for at, value in result.get("values") or [result["value"]]]
                # 0 / 0, as of a stage without anything to do, is nothing to draw.
                known = [point for point in points if not math.isnan(point[1])]
                legend = _legend(query.legend, result["metric"])
                if known:
                    found.append(Series(legend, [at for at, _ in known], [value for _, value in known]))
        return found

    @property
    def step(self) -> float:
        """Seconds from a point of a line to the next."""
        return max(15.0, (self.end - self.start) / POINTS)

    def _ask(self, expr: str, *, now: bool) -> list[dict[str, Any]]:
        asked: dict[str, Any] = {"query": expr, "time": self.end}
        if not now:
            asked |= {"start": self.start, "end": self.end, "step": self.step}
        path = "query" if now else "query_range"
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(asked)}", timeout=60) as answer:
            result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return result


def draw(dashboard: Dashboard, source: Source, out: str) -> None:
    """A picture of a dashboard, in the format that the end of `out` names."""
    rows = max(panel.y + panel.height for panel in dashboard.panels)
    figure = plt.figure(figsize=(20, UNIT * (rows + 1)), dpi=75)
    until = datetime.fromtimestamp(source.end)
    figure.suptitle(f"{dashboard.title}: {source.run}, until {until:%Y-%m-%d %H:%M}", x=0.01, ha="left", size=16)
    for panel in dashboard.panels:
        axes = figure.add_axes(_place(panel, rows + 1))
        axes.set_title(panel.title, loc="left", size=11, weight="bold")
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
        KINDS[panel.kind](axes, panel, source)
    figure.savefig(out)
    plt.close(figure)


def _place(panel: Panel, rows: int) -> tuple[float, float, float, float]:
    """(left, bottom, width, height) in a picture of some rows, with room for labels, the title above and the legend below."""
    labels = 0.065 if panel.kind in ("state-timeline", "bargauge") else 0.035
    below = 0.2 if panel.kind == "stat" else BELOW
    bottom = rows - 1 - panel.y - panel.height + below
    return (
        panel.x / 24 + labels, bottom / rows, panel.width / 24 - labels - 0.012, (panel.height - below - ABOVE) / rows
    )  # fmt: skip


def lines(axes: Axes, panel: Panel, source: Source) -> None:
    """Lines, or areas on top of each other."""
    found = source.series(panel)
    if panel.stacked and found:
        times = sorted({at for series in found for at in series.with_gaps(source.step).times})
        known = [dict(zip(series.times, series.values, strict=True)) for series in found]
        heights = [[values.get(at, 0.0) for at in times] for values in known]
        axes.stackplot(times, heights, labels=[series.legend for series in found], alpha=0.7)
    elif found:
        for series in (each.with_gaps(source.step) for each in found):
            # With dots, since a value between two gaps is no line.
            axes.plot(series.times, series.values, label=series.legend, linewidth=1.2, marker=".", markersize=2)
    for level, color in panel.limits:
        if math.isfinite(level):
            axes.axhline(level, color=COLORS[color], linestyle="--", linewidth=0.8)
    _value_axis(axes, panel.unit)
    _time_axis(axes, source)
    _legend_or(axes, panel, found)


def periods(axes: Axes, panel: Panel, source: Source) -> None:
    """A row for each series, coloured by its value."""
    found = source.series(panel)
    for row, series in enumerate(found):
        for at, value in zip(series.times, series.values, strict=True):
            axes.barh(row, source.step, left=at, height=0.7, color=_color(panel, value))
    axes.set_yticks(range(len(found)), [series.legend for series in found])
    _time_axis(axes, source)
    _legend_or(axes, panel, [])


def figures(axes: Axes, panel: Panel, source: Source) -> None:
    """Large figures, one below the other."""
    found = source.series(panel)
    axes.axis("off")
    texts = [(said(series.values[-1], panel.unit), series.legend, _color(panel, series.values[-1])) for series in found]
    for number, (figure, legend, color) in enumerate(texts or [(panel.none, "", "grey")]):
        y = 1 - (number + 0.5) / max(1, len(texts))
        axes.text(0, y, f"{figure}  ", size=22 / max(1, len(texts)) ** 0.5, color=color, va="center")
        axes.text(1, y, legend, size=10, va="center", ha="right")


def bars(axes: Axes, panel: Panel, source: Source) -> None:
    """A bar for each series, the first on top."""
    found = source.series(panel)[::-1]
    values = [series.values[-1] for series in found]
    drawn = axes.barh([series.legend for series in found], values, color=[_color(panel, value) for value in values])
    size = min(8.0, 0.8 * POINTS_AN_INCH * UNIT * (panel.height - BELOW - ABOVE) / max(1, len(found)))
    axes.tick_params(axis="y", labelsize=size)
    axes.bar_label(drawn, [f" {said(value, panel.unit)}" for value in values], size=size)
    axes.margins(x=0.2)
    axes.xaxis.set_visible(False)
    if not found:
        axes.text(0.5, 0.5, panel.none, color="grey", ha="center", transform=axes.transAxes)


KINDS = {"timeseries": lines, "state-timeline": periods, "stat": figures, "bargauge": bars}


def said(value: float, unit: str) -> str:
    """A value with its unit, in a few characters."""
    size, name = scale(value, unit)
    return f"{value / size:.3g}{name}" if value / size < 1000 else f"{value / size:.0f}{name}"


def scale(value: float, unit: str) -> tuple[float, str]:
    """(size, name) of the unit in which a value is well said."""
    return next(((size, name) for size, name in SCALES.get(unit, ()) if value >= size), SCALES.get(unit, NO_SCALE)[-1])


def _legend(template: str, labels: Mapping[str, str]) -> str:
    return re.sub(r"{{(\w+)}}", lambda name: labels.get(name[1], ""), template).replace("__auto", "")


def _color(panel: Panel, value: float) -> str:
    return COLORS[[color for level, color in panel.limits if value >= level][-1]]


def _value_axis(axes: Axes, unit: str) -> None:
    """From 0 on, with round numbers of the unit in which the top is said."""
    axes.set_ylim(0, 1 if unit == "percentunit" or axes.dataLim.y1 == 0 else None)
    top = axes.get_ylim()[1]
    size, _ = scale(top, unit)
    ticks = [
        tick * size for tick in MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(0, top / size) if tick * size <= top
    ]
    axes.set_yticks(ticks, [said(tick, unit) if tick else "0" for tick in ticks])
    axes.grid(alpha=0.25)


def _time_axis(axes: Axes, source: Source) -> None:
    axes.set_xlim(source.start, source.end)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{datetime.fromtimestamp(at):%H:%M}"))
    axes.xaxis.set_major_locator(LinearLocator(5))


def _legend_or(axes: Axes, panel: Panel, found: list[Series]) -> None:
    if any(series.legend for series in found):
        columns = panel.width // 2
        axes.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.12), ncols=columns, fontsize=7.5, frameon=False)
    elif not axes.has_data():
        axes.text(0.5, 0.5, panel.none, color="grey", ha="center", transform=axes.transAxes)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prometheus", required=True, metavar="URL")
    parser.add_argument("--run", required=True, metavar="NAME")
    parser.add_argument("--dashboard", default="run", choices=("run", "extraction", "training", "nodes"))
    parser.add_argument("--hours", type=float, default=6.0)
    parser.add_argument("--until", type=float, default=time.time(), metavar="SECONDS", help="Unix time; now by default")
    parser.add_argument("--out", required=True, metavar="FILE")
    options = parser.parse_args()
    start = options.until - 3600 * options.hours
    source = Source(options.prometheus.rstrip("/"), options.run, start, options.until)
    draw(read(options.dashboard), source, options.out)


if __name__ == "__main__":
    main()
