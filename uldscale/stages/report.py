"""The verb `report`: report.html, one file with the numbers and pictures of a run, and the table on the terminal."""

import base64
import io
from dataclasses import dataclass
from importlib.resources import files as resources
from typing import Any

import jinja2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from uldscale import files
from uldscale.data.index import ImageIndex
from uldscale.evaluation import plots
from uldscale.runs import RunFolder
from uldscale.stages.evaluate import METHODS, landmarks_of
from uldscale.store.features import FeatureStore

TITLES = {
    "mean_shape": "mean shape",
    "zero_shot": "ZeroShot",
    "d_uld": "D-ULD",
    "d_uld_pose_proxy": "D-ULD + pose proxy",
    "d_uld_pp": "D-ULD++",
}
SHOWN_IMAGES = 24
"""Test images in each picture of landmarks."""
POSE_IMAGES = 10
"""Images in each row of the picture of poses."""


@dataclass(frozen=True)
class Cell:
    text: str
    best: bool = False


@dataclass(frozen=True)
class Row:
    title: str
    cells: list[Cell]


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


def write_report(index: ImageIndex, store: FeatureStore, run: RunFolder, name: str) -> str:
    """Write report.html from result.json, metrics.jsonl and the predictions; returns its path."""
    result = files.read_json(run.result)
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
        resources("uldscale.stages").joinpath("report.html").read_text("utf-8")
    )
    page = template.render(
        name=name,
        dataset=result["dataset"],
        protocols=protocols(result),
        rows=rows(result),
        sections=_sections(index, store.spec.image_size, run, result),
        quarantined=index.quarantined(),
        seconds=result["seconds"],
    )
    files.write_bytes(run.report, page.encode())
    return run.report


def protocols(result: dict[str, Any]) -> list[str]:
    """Names of the evaluation protocols in a result."""
    return list(next(iter(result["methods"].values())).get("nme", {}))


def rows(result: dict[str, Any]) -> list[Row]:
    """The table of a result: the mean shape, then every method; the best number of each column is marked."""
    columns = [(protocol, direction) for protocol in protocols(result) for direction in ("forward", "backward")]
    best = {
        (protocol, direction): min(method["nme"][protocol][direction] for method in result["methods"].values())
        for protocol, direction in columns
    }
    table = []
    if columns:
        shape = result["baselines"]["mean_shape"]
        cells = [Cell(f"{shape[protocol]:.2f}" if direction == "forward" else "") for protocol, direction in columns]
        table.append(Row(TITLES["mean_shape"], [*cells, Cell("")]))
    for name, method in result["methods"].items():
        values = {column: method["nme"][column[0]][column[1]] for column in columns}
        cells = [Cell(f"{value:.2f}", value == best[column]) for column, value in values.items()]
        table.append(Row(TITLES[name], [*cells, Cell(f"{100 * method['detection_rate']:.1f} %")]))
    return table


def print_summary(result: dict[str, Any], report: str | None) -> None:
    """Print the table of a result, and where the report is."""
    table = Table(title="NME %, lower is better" if protocols(result) else None)
    table.add_column("method")
    headings = [f"{protocol} {direction}" for protocol in protocols(result) for direction in ("forward", "backward")]
    for heading in [*headings, "detection rate"]:
        table.add_column(heading, justify="right")
    for row in rows(result):
        table.add_row(row.title, *(f"[bold]{cell.text}[/bold]" if cell.best else cell.text for cell in row.cells))
    console = Console()
    console.print(table)
    if report:
        console.print(f"report: {report}", soft_wrap=True)


def _sections(index: ImageIndex, size: int, run: RunFolder, result: dict[str, Any]) -> list[Section]:
    sections = [
        Section(
            "Landmarks on test images",
            "The same colour is the same landmark on every image; a missing one is not drawn.",
            [_landmarks(index, size, run, method) for method in METHODS],
        ),
        Section(
            "Pose clusters",
            "Each row is one pose cluster of D-ULD++: images whose landmark heatmaps have similar codes.",
            [_poses(index, size, run)],
        ),
    ]
    if protocols(result):
        sections.append(_ced(result))
    curves = plots.loss_curves([event for event in run.read_metrics() if event["event"] == "step"])
    sections.append(Section("Losses", "One panel a stage.", [_figure("losses by step", curves)]))
    return sections


def _landmarks(index: ImageIndex, size: int, run: RunFolder, method: str) -> Figure:
    chosen = shown_rows(index)
    images = np.stack([index.load(int(row), size) for row in chosen])
    points = landmarks_of(index, run, method)[0][chosen] * size
    return _photograph(TITLES[method], plots.landmarks(images, points))


def shown_rows(index: ImageIndex) -> NDArray[np.int64]:
    """The images of the pictures: spread over yaw where yaw is known, else over the index; always the same for an index."""
    pool = index.rows("test") if len(index.rows("test")) else index.rows()
    yaw = index.yaw(pool)
    ordered = pool[np.argsort(yaw, kind="stable")] if np.isfinite(yaw).all() else pool
    chosen: NDArray[np.int64] = ordered[
        np.linspace(0, len(ordered) - 1, min(SHOWN_IMAGES, len(ordered))).round().astype(int)
    ]
    return chosen


def _poses(index: ImageIndex, size: int, run: RunFolder) -> Figure:
    _, poses = landmarks_of(index, run, METHODS[-1])
    pool = index.rows("test") if len(index.rows("test")) else index.rows()
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
            {TITLES[name]: method["nme"][protocol][f"{direction}_ced"] for name, method in result["methods"].items()}
            for direction in ("forward", "backward")
        ]
        figures.append(_figure(protocol, plots.ced(*curves)))
    return Section("Cumulative error", "The mean error of the n easiest points, over n (the field's CED).", figures)


def _figure(caption: str, png: bytes) -> Figure:
    return Figure(caption, "png", base64.b64encode(png).decode())


def _photograph(caption: str, png: bytes) -> Figure:
    """Pictures of images are a tenth of the size as JPEG."""
    sink = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(sink, "JPEG", quality=85)
    return Figure(caption, "jpeg", base64.b64encode(sink.getvalue()).decode())
