"""Pictures for the report, as PNG bytes. Drawn with matplotlib's object interface: callers share no state.

Legend: n images of S x S pixels, K landmarks. Points are pixels of the image, NaN = missing.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator
from numpy.typing import NDArray

from uldscale.evaluation.canvas import DPI, add_axes, canvas, picture, place, png

Rgb = tuple[float, float, float]

CURVE_DPI = 160
INK = "#1f2933"
QUIET = "#7b8794"
GRID = "#e4e9ee"
LINES = ("#2563eb", "#e8590c", "#0d9488", "#c026d3", "#ca8a04", "#64748b", "#65a30d", "#1f2933")
VIVID = ("#ff2d3d", "#00d65b", "#3d8bff", "#ffd60a", "#ff4df2", "#00e5ff", "#ff8a00", "#a56bff", "#b6ff00", "#ffb3d1")
NUMBERED = 12  # with more landmarks, numbers on the picture would hide the object
GAP = 6
LEGEND_STEP = 38
OVERLAY_SIDE = 512


def colours(count: int) -> list[Rgb]:
    """The first `count` of one fixed row of colours, each as far as possible from those before it; no greys."""
    steps = product(np.linspace(0, 1, 7), repeat=3)
    candidates = np.array([colour for colour in steps if max(colour) - min(colour) >= 0.3 and max(colour) >= 0.5])
    chosen = [np.array(to_rgb(colour)) for colour in VIVID[:count]]
    while len(chosen) < count:
        gaps = np.linalg.norm(candidates[:, None] - np.array(chosen), axis=-1).min(axis=1)
        chosen.append(candidates[gaps.argmax()])
    return [(float(red), float(green), float(blue)) for red, green, blue in chosen]


def landmarks(
    images: NDArray[np.uint8],
    points: NDArray[np.floating],
    titles: Sequence[str] | None = None,
    columns: int = 6,
    side: int = 256,
) -> bytes:
    """A grid of images (n, S, S, 3), drawn `side` pixels wide, with landmarks (n, K, 2) in colours of their own.

    Up to 12 landmarks carry their numbers; more are told apart by a legend below.
    """
    columns, head, count = min(columns, len(images)), 24 if titles else 0, points.shape[1]
    width, height = columns * (side + GAP) + GAP, math.ceil(len(images) / columns) * (side + head + GAP) + GAP
    per_line = (width - 2 * GAP) // LEGEND_STEP
    legend = 0 if count <= NUMBERED else 30 * math.ceil(count / per_line)
    figure = canvas(width, height + legend)
    for number, image in enumerate(images):
        left, top = GAP + number % columns * (side + GAP), GAP + number // columns * (side + head + GAP)
        axes = picture(figure, image, left, top + head, side, side)
        _dots(axes, points[number])
        if titles:
            figure.text(*place(figure, left, top + 17), titles[number], fontsize=9, color=INK)
    if legend:
        _legend(add_axes(figure, 0, height, width, legend), width, legend, count, per_line)
    return png(figure)


def overlay(image: NDArray[np.uint8], points: NDArray[np.floating]) -> bytes:
    """One image (H, W, 3) of any size with its landmarks (K, 2); a small one is enlarged to 512 pixels."""
    height, width = image.shape[:2]
    scale = max(1.0, OVERLAY_SIDE / max(height, width))
    figure = canvas(round(width * scale), round(height * scale))
    axes = picture(figure, image, 0, 0, round(width * scale), round(height * scale))
    _dots(axes, points, magnify=scale * max(height, width) / OVERLAY_SIDE)
    return png(figure)


def pose_rows(
    faces: Sequence[NDArray[np.uint8]], counts: Sequence[int], yaws: Sequence[NDArray[np.floating]] | None = None
) -> bytes:
    """One row per pose: some of its images (m, S, S, 3), how many it has, and the histogram of their yaw in degrees."""
    side, label, chart = 112, 92, 230 if yaws is not None else 0
    width = label + max(len(row) for row in faces) * (side + GAP) + chart + GAP
    figure = canvas(width, len(faces) * (side + GAP) + GAP + (26 if chart else 0))
    peak = max((_yaw_histogram(yaw).max() for yaw in yaws), default=0) if yaws is not None else 0
    for number, row in enumerate(faces):
        top = GAP + number * (side + GAP)
        figure.text(*place(figure, 12, top + 50), f"pose {number}", fontsize=11, color=INK, weight="bold")
        figure.text(*place(figure, 12, top + 70), f"{counts[number]:,} images", fontsize=8, color=QUIET)
        for column, image in enumerate(row):
            picture(figure, image, label + column * (side + GAP), top, side, side)
        if yaws is not None:
            axes = add_axes(figure, width - chart + 12, top + 8, chart - 24, side - 8)
            _yaw_chart(axes, yaws[number], peak, last=number == len(faces) - 1)
    return png(figure)


def ced(forward: Mapping[str, Sequence[float]], backward: Mapping[str, Sequence[float]]) -> bytes:
    """Cumulative errors of methods as the field draws them: mean error in per cent of the x best points."""
    figure = Figure(figsize=(10, 3.8), dpi=CURVE_DPI, layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, curves, title, of in zip(
        panels, (forward, backward), ("Forward", "Backward"), ("annotated points", "landmarks"), strict=True
    ):
        for number, (name, errors) in enumerate(curves.items()):
            axes.plot(range(1, len(errors) + 1), errors, label=name, lw=1.8, color=LINES[number % len(LINES)])
        finish(axes, title, f"{of}, best first", "mean error so far, %")
        axes.legend(frameon=False, fontsize=8, labelcolor=INK)
        axes.set_ylim(bottom=0)
    return png(figure)


def curves(places: Sequence[int], lines: Mapping[str, Sequence[float | None]], x: str, y: str) -> bytes:
    """Lines over places; None is a gap. `x` and `y` name the axes."""
    figure = Figure(figsize=(10, 3.4), dpi=CURVE_DPI, layout="constrained")
    axes = figure.subplots()
    for number, (name, values) in enumerate(lines.items()):
        heights = [np.nan if value is None else value for value in values]
        axes.plot(places, heights, "o-", ms=3, lw=1.6, color=LINES[number % len(LINES)], label=name)
    finish(axes, "", x, y)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, fontsize=8, labelcolor=INK)
    return png(figure)


def loss_curves(metrics: Sequence[Mapping[str, Any]]) -> bytes:
    """Losses over steps, one panel per stage, of records with `stage` and `step`.

    Every other float of a record is a loss, but for `time` and what ends in `seconds`. Of a step that a resumed run did
    twice, the later record counts.
    """
    records = [record for record in metrics if "stage" in record and "step" in record and _losses(record)]
    stages = list({record["stage"]: None for record in records})
    columns = 2 if len(stages) == 4 else min(3, max(1, len(stages)))
    rows = math.ceil(max(1, len(stages)) / columns)
    figure = Figure(figsize=(10, 3.0 * rows), dpi=CURVE_DPI, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, stage in zip(panels, stages, strict=False):
        _loss_panel(axes, str(stage), [record for record in records if record["stage"] == stage])
    for axes in panels[len(stages) :]:
        axes.set_axis_off()
    return png(figure)


def _losses(record: Mapping[str, Any]) -> list[str]:
    names = [name for name, value in record.items() if isinstance(value, float)]
    return [name for name in names if name != "time" and not name.endswith("seconds")]


def _loss_panel(axes: Axes, stage: str, records: Sequence[Mapping[str, Any]]) -> None:
    names = list({name: None for record in records for name in _losses(record)})
    for number, name in enumerate(names):
        by_step = {record["step"]: record[name] for record in records if isinstance(record.get(name), float)}
        steps = sorted(by_step)
        values = np.array([by_step[step] for step in steps])
        colour = LINES[number % len(LINES)]
        axes.plot(steps, values, color=colour, lw=0.7, alpha=0.25)
        axes.plot(steps, _smooth(values), color=colour, lw=1.6, label=name)
    everything = [record[name] for record in records for name in _losses(record)]
    if 0 < 10 * min(everything) < max(everything):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
    finish(axes, stage, "step", "")
    axes.legend(frameon=False, fontsize=8, labelcolor=INK)


def _smooth(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Running mean over a twenty-fifth of the curve."""
    total = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    position, reach = np.arange(len(values)), len(values) // 50
    first, last = np.maximum(position - reach, 0), np.minimum(position + reach + 1, len(values))
    return np.asarray((total[last] - total[first]) / (last - first))


def _dots(axes: Axes, points: NDArray[np.floating], magnify: float = 1.0) -> None:
    numbered = len(points) <= NUMBERED
    for number, (colour, (x, y)) in enumerate(zip(colours(len(points)), points, strict=True)):
        if np.isfinite(x) and np.isfinite(y):
            # The centre of the first pixel is 0 on the axes of a picture and 0.5 in points.
            _dot(axes, x - 0.5, y - 0.5, colour, radius=magnify * (7.5 if numbered else 4.5))
            if numbered:
                ink = INK if np.dot(colour, (0.3, 0.59, 0.11)) > 0.45 else "white"
                label = axes.text(x - 0.5, y - 0.5, str(number), fontsize=6.7 * magnify, weight="bold", color=ink)
                label.set(ha="center", va="center_baseline")


def _dot(axes: Axes, x: float, y: float, colour: Rgb, radius: float) -> None:
    size = 2 * radius * 72 / DPI
    axes.plot(x, y, "o", ms=size + 1.8, color=INK, mew=0, alpha=0.55, clip_on=False)
    axes.plot(x, y, "o", ms=size, color=colour, mec="white", mew=0.9, clip_on=False)


def _legend(axes: Axes, width: int, height: int, count: int, per_line: int) -> None:
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    for number, colour in enumerate(colours(count)):
        x, y = GAP + 12 + LEGEND_STEP * (number % per_line), 12 + 30 * (number // per_line)
        _dot(axes, x, y, colour, radius=5)
        axes.text(x + 9, y, str(number), fontsize=8, color=INK, va="center_baseline")


def _yaw_histogram(yaw: NDArray[np.floating]) -> NDArray[np.float64]:
    known = yaw[np.isfinite(yaw)]
    return np.histogram(np.clip(known, -90, 90), bins=36, range=(-90, 90))[0] / max(1, len(known))


def _yaw_chart(axes: Axes, yaw: NDArray[np.floating], peak: float, last: bool) -> None:
    axes.bar(np.arange(-87.5, 90, 5), _yaw_histogram(yaw), width=4.2, color=LINES[0])
    axes.set(xlim=(-92, 92), ylim=(0, 1.08 * peak or 1))
    finish(axes, "", "", "")
    axes.set_yticks([])
    axes.set_xticks([-60, -30, 0, 30, 60], ["-60°", "", "yaw 0°", "", "+60°"] if last else [""] * 5)
    axes.grid(axis="x", color=GRID, lw=0.8)


def finish(axes: Axes, title: str, x: str, y: str) -> None:
    """Title, names and grid of a chart."""
    axes.set_title(title, fontsize=10, color=INK, loc="left", weight="bold")
    axes.set_xlabel(x, fontsize=9, color=QUIET)
    axes.set_ylabel(y, fontsize=9, color=QUIET)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRID)
    axes.tick_params(colors=QUIET, labelsize=8, length=0, which="both")
    axes.grid(color=GRID, lw=0.8)
    axes.set_axisbelow(True)
