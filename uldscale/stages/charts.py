"""Charts of the report, as SVG, by section: what a result and the log of its run have numbers for."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from uldscale.evaluation import bars, plots
from uldscale.evaluation.clusters import YAW_RANGES
from uldscale.runs import RunFolder
from uldscale.stages.tables import NORMALISERS, protocols, title_of
from uldscale.training.schedule import Stage


@dataclass(frozen=True)
class Chart:
    title: str
    svg: str


@dataclass(frozen=True)
class Section:
    title: str
    note: str
    charts: list[Chart]


def sections(run: RunFolder, result: dict[str, Any]) -> list[Section]:
    """Those that have a chart."""
    made = [
        *([_ced(result), _by_yaw(result), _accuracy(result)] if protocols(result) else []),
        _churn(result),
        _losses(run),
    ]
    return [section for section in made if section.charts]


def pose_charts(run: RunFolder, result: dict[str, Any]) -> list[Chart]:
    """How poses agree with yaw; none where no yaw is known."""
    charts = []
    shares = {
        title_of(name): method["poses"]["accuracy"] for name, method in result["methods"].items() if "poses" in method
    }
    if shares:
        charts.append(
            Chart("Share of images in poses of their own range of yaw", bars.grouped(_ranges(), shares, "yaw", "share"))
        )
    rounds = [event for event in run.rounds(Stage.D_ULD_PP) if "pose_purity" in event]
    if len(rounds) > 1:
        lines = dict(zip(_ranges(), zip(*(event["pose_accuracy"] for event in rounds), strict=True), strict=True))
        lines["all (purity)"] = tuple(event["pose_purity"] for event in rounds)
        drawn = plots.curves([event["round"] for event in rounds], lines, "round of labels", "share")
        charts.append(Chart("The same of training images, by round of labels", drawn))
    return charts


def _ranges() -> list[str]:
    return [f"{low:.0f}° to {high:.0f}°" for low, high in pairwise(YAW_RANGES)]


def _of_methods(result: dict[str, Any], *keys: str) -> dict[str, Any]:
    """One entry of each method that has it, by title."""
    found = {}
    for name, method in result["methods"].items():
        for key in keys:
            method = method.get(key, {})
        if method:
            found[title_of(name)] = method
    return found


def _ced(result: dict[str, Any]) -> Section:
    charts = []
    for protocol in protocols(result):
        for direction, of in (("forward", "annotated points"), ("backward", "landmarks")):
            curves = _of_methods(result, "nme", protocol, f"{direction}_ced")
            charts.append(Chart(f"{protocol}, {direction}", plots.ced(curves, of)))
    return Section(
        "Cumulative error", "The mean error of the n easiest points, over n (the field's CED); lower is better.", charts
    )


def _by_yaw(result: dict[str, Any]) -> Section:
    parts = _of_methods(result, "nme_by_yaw", "bins")
    charts = []
    for direction in ("forward", "backward") if parts else ():
        ranges = [f"{part['low']:.0f}° to {part['high']:.0f}°" for part in next(iter(parts.values()))]
        errors = {name: [part[direction] for part in found] for name, found in parts.items()}
        drawn = bars.grouped(ranges, errors, "yaw, either way", "NME, %")
        protocol = next(iter(_of_methods(result, "nme_by_yaw", "protocol").values()))
        charts.append(Chart(f"{protocol}, {direction}", drawn))
    note = "One regressor for all images; its errors, averaged by how far the object is turned. Lower is better."
    return Section("Error by yaw", note, charts)


def _accuracy(result: dict[str, Any]) -> Section:
    shares = _of_methods(result, "accuracy", "per_point")
    rule = next(method["accuracy"] for method in result["methods"].values() if "accuracy" in method)
    points = [str(number) for number in range(len(next(iter(shares.values()))))]
    note = (
        "Raw landmarks without any regressor: share of test images in which the landmark that was matched to an annotated point "
        f"on training images lies within {rule['threshold']:g} of {NORMALISERS[rule['normaliser']]} from it. Higher is better."
    )
    return Section(
        "Raw accuracy", note, [Chart("By annotated point", bars.grouped(points, shares, "annotated point", "share"))]
    )


def _churn(result: dict[str, Any]) -> Section:
    churn = {name: values for name, values in _of_methods(result, "churn").items() if len(values) > 1}
    note = (
        "Share of pseudo-labels that changed from one round to the next; those of Mallis(D) are numbered anew in each."
    )
    if not churn:
        return Section("Label churn", note, [])
    longest = max(map(len, churn.values()))
    lines = {name: [*values, *[None] * (longest - len(values))] for name, values in churn.items()}
    return Section(
        "Label churn",
        note,
        [Chart("By round of the stage", plots.curves(range(1, longest + 1), lines, "round", "share"))],
    )


def _losses(run: RunFolder) -> Section:
    curves = plots.loss_curves([event for event in run.read_metrics() if event["event"] == "step"])
    return Section("Losses", "By step; a running mean is drawn over the values.", [*_charts(curves)])


def _charts(curves: dict[str, str]) -> Iterator[Chart]:
    for stage, drawn in curves.items():
        yield Chart(title_of(stage), drawn)
