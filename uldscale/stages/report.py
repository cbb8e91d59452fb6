"""The verb `report`: report.html, one file with the numbers and pictures of a run, and the table on the terminal."""

import base64
import io
from dataclasses import dataclass
from functools import partial
from importlib.resources import files as resources
from itertools import pairwise
from typing import Any

import jinja2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from uldscale import files
from uldscale.data.index import ImageIndex
from uldscale.errors import IncompleteError
from uldscale.evaluation import bars, plots
from uldscale.evaluation.clusters import YAW_RANGES
from uldscale.runs import RunFolder
from uldscale.runtime.progress import Progress
from uldscale.stages.evaluate import landmarks_of
from uldscale.stages.tables import compared, measured, measures, protocols, rows, title_of
from uldscale.training.schedule import Stage

SHOWN_IMAGES = 24
"""Test images in each picture of landmarks."""
POSE_IMAGES = 10
"""Images in each row of the picture of poses."""


@dataclass(frozen=True)
class Figure:
    caption: str
    kind: str
    content: str
    """Base64."""


@dataclass(frozen=True)
class Section:
    title: str
    note: str
    figures: list[Figure]


def write_report(index: ImageIndex, size: int, run: RunFolder, name: str) -> str:
    """Write report.html from result.json, metrics.jsonl and the predictions; returns its path. `size`: pixels of the crop.

    Raises IncompleteError when nothing is evaluated yet.
    """
    if not files.exists(run.result):
        raise IncompleteError(f"{run.root} has no result.json yet; `uldscale evaluate` the same job first")
    result = files.read_json(run.result)
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
        resources("uldscale.stages").joinpath("report.html").read_text("utf-8")
    )
    page = template.render(
        name=name,
        dataset=result["dataset"],
        protocols=protocols(result),
        without_normaliser=result["without_normaliser"],
        rows=rows(result),
        measures=list(measures(result).values()),
        compared=compared(result),
        measured=measured(result),
        sections=_sections(index, size, run, result),
        quarantined=index.quarantined(),
        seconds=result["seconds"],
    )
    files.write_bytes(run.report, page.encode())
    return run.report


def _sections(index: ImageIndex, size: int, run: RunFolder, result: dict[str, Any]) -> list[Section]:
    makers = [partial(_landmarks, index, size, run, result)]
    if Stage.D_ULD_PP.value in result["methods"]:
        makers.append(partial(_poses, index, size, run, result))
    if protocols(result):
        makers += [partial(make, result) for make in (_ced, _by_yaw, _accuracy)]
    makers += [partial(_labels, run, result), partial(_losses, run)]
    sections = []
    with Progress("report", len(makers), run.progress) as progress:
        for make in makers:
            sections.append(make())
            progress.advance()
    return [section for section in sections if section.figures]


def _landmarks(index: ImageIndex, size: int, run: RunFolder, result: dict[str, Any]) -> Section:
    chosen = shown_rows(index)
    images = _faces(index, chosen, size)
    found = {method: landmarks_of(index, run, method)[0][chosen] * size for method in result["methods"]}
    return Section(
        "Landmarks on test images",
        "The same colour is the same landmark on every image; a missing one is not drawn.",
        [_photograph(title_of(method), plots.landmarks(images, points)) for method, points in found.items()],
    )


def shown_rows(index: ImageIndex) -> NDArray[np.int64]:
    """The images of the pictures: spread over yaw where yaw is known, else over the index; always the same for an index."""
    pool = index.judged()
    yaw = index.yaw(pool)
    ordered = pool[np.argsort(yaw, kind="stable")] if np.isfinite(yaw).all() else pool
    chosen: NDArray[np.int64] = ordered[
        np.linspace(0, len(ordered) - 1, min(SHOWN_IMAGES, len(ordered))).round().astype(int)
    ]
    return chosen


def _poses(index: ImageIndex, size: int, run: RunFolder, result: dict[str, Any]) -> Section:
    note = "Each row is one pose cluster of D-ULD++: images whose landmark heatmaps have similar codes."
    figures = [_pose_rows(index, size, run)]
    agreements = {title_of(name): method["poses"] for name, method in result["methods"].items() if "poses" in method}
    if agreements:
        shares = {name: agreement["accuracy"] for name, agreement in agreements.items()}
        picture = bars.grouped(_ranges(), shares, "yaw", "share")
        figures.append(_figure("share of images in poses of their own range", picture))
    rounds = [event for event in run.rounds(Stage.D_ULD_PP) if "pose_purity" in event]
    if rounds:
        lines = dict(zip(_ranges(), zip(*(event["pose_accuracy"] for event in rounds), strict=True), strict=True))
        lines["all (purity)"] = tuple(event["pose_purity"] for event in rounds)
        picture = plots.curves([event["round"] for event in rounds], lines, "round of labels", "share")
        figures.append(_figure("the same of training images, by round of labels", picture))
    return Section("Pose clusters", note, figures)


def _ranges() -> list[str]:
    return [f"{low:.0f}° to {high:.0f}°" for low, high in pairwise(YAW_RANGES)]


def _labels(run: RunFolder, result: dict[str, Any]) -> Section:
    """How labels settle."""
    churn = {title_of(name): method["churn"] for name, method in result["methods"].items() if "churn" in method}
    note = (
        "Share of pseudo-labels that changed from one round to the next; those of Mallis(D) are numbered anew in each."
    )
    if not churn:
        return Section("Label churn", note, [])
    longest = max(len(values) for values in churn.values())
    lines = {name: [*values, *[None] * (longest - len(values))] for name, values in churn.items()}
    picture = plots.curves(range(1, longest + 1), lines, "round of the stage", "share")
    return Section("Label churn", note, [_figure("by round", picture)])


def _losses(run: RunFolder) -> Section:
    curves = plots.loss_curves([event for event in run.read_metrics() if event["event"] == "step"])
    return Section("Losses", "One panel a stage.", [_figure("losses by step", curves)])


def _pose_rows(index: ImageIndex, size: int, run: RunFolder) -> Figure:
    _, poses = landmarks_of(index, run, Stage.D_ULD_PP.value)
    pool = index.judged()
    by_pose = [pool[poses[pool] == pose] for pose in range(int(poses.max()) + 1)]
    images = [_faces(index, group[:POSE_IMAGES], size) for group in by_pose]
    yaws = [index.yaw(group) for group in by_pose] if np.isfinite(index.yaw(pool)).all() else None
    picture = plots.pose_rows(images, [len(group) for group in by_pose], yaws)
    return _photograph("pose clusters on test images", picture)


def _faces(index: ImageIndex, rows: NDArray[np.int64], size: int) -> NDArray[np.uint8]:
    faces = [index.load(int(row), size) for row in rows]
    return np.stack(faces) if faces else np.zeros((0, size, size, 3), np.uint8)


def _ced(result: dict[str, Any]) -> Section:
    figures = []
    for protocol in protocols(result):
        curves = [
            {title_of(name): method["nme"][protocol][f"{direction}_ced"] for name, method in result["methods"].items()}
            for direction in ("forward", "backward")
        ]
        figures.append(_figure(protocol, plots.ced(*curves)))
    return Section("Cumulative error", "The mean error of the n easiest points, over n (the field's CED).", figures)


def _by_yaw(result: dict[str, Any]) -> Section:
    """Bars of errors; empty without yaw."""
    parts = {title_of(name): method["nme_by_yaw"]["bins"] for name, method in result["methods"].items()}
    protocol = next(iter(result["methods"].values()))["nme_by_yaw"]["protocol"]
    ranges = [f"{part['low']:.0f}° to {part['high']:.0f}°" for part in next(iter(parts.values()))]
    figures = []
    for direction in ("forward", "backward") if ranges else ():
        errors = {name: [part[direction] for part in found] for name, found in parts.items()}
        bars_of_all = bars.grouped(ranges, errors, "yaw, either way", f"{direction} NME, %")
        figures.append(_figure(f"{protocol}, {direction}", bars_of_all))
    return Section(
        "Error by yaw", "One regressor for all images; its errors, averaged by how far the object is turned.", figures
    )


def _accuracy(result: dict[str, Any]) -> Section:
    """Bars of raw landmarks against annotated points."""
    shares = {title_of(name): method["accuracy"]["per_point"] for name, method in result["methods"].items()}
    rule = next(iter(result["methods"].values()))["accuracy"]
    points = [str(number) for number in range(len(next(iter(shares.values()))))]
    note = (
        "Raw landmarks without any regressor: share of test images in which the landmark that was matched to an annotated point "
        f"on training images lies within {rule['threshold']:g} of {rule['normaliser']} from it."
    )
    return Section(
        "Raw accuracy", note, [_figure("by annotated point", bars.grouped(points, shares, "point", "share"))]
    )


def _figure(caption: str, png: bytes) -> Figure:
    return Figure(caption, "png", base64.b64encode(png).decode())


def _photograph(caption: str, png: bytes) -> Figure:
    """Pictures of images are a tenth of the size as JPEG."""
    sink = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(sink, "JPEG", quality=85)
    return Figure(caption, "jpeg", base64.b64encode(sink.getvalue()).decode())
