"""Charts of the report as SVG, and landmarks on an image as PNG bytes. Drawn with matplotlib's object interface: callers share no state.

Legend: K landmarks. Points are pixels of the image, NaN = missing.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator
from numpy.typing import NDArray

from uldscale.evaluation.canvas import DPI, GRID, INK, LINES, QUIET, canvas, picture, png, svg

Rgb = tuple[float, float, float]

CHART_INCHES = (5.0, 3.0)
"""Of a chart, so that its words can be read on a phone."""
YAW_INCHES = (3.2, 1.1)
VIVID = ("#ff2d3d", "#00d65b", "#3d8bff", "#ffd60a", "#ff4df2", "#00e5ff", "#ff8a00", "#a56bff", "#b6ff00", "#ffb3d1")
NUMBERED = 12  # with more landmarks, numbers on the picture would hide the object
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


def overlay(image: NDArray[np.uint8], points: NDArray[np.floating], hidden: Sequence[bool] | None = None) -> bytes:
    """One image (H, W, 3) of any size with its landmarks (K, 2), hollow where they are `hidden` (K,); a small one is enlarged to 512
    pixels.
    """
    height, width = image.shape[:2]
    scale = max(1.0, OVERLAY_SIDE / max(height, width))
    figure = canvas(round(width * scale), round(height * scale))
    axes = picture(figure, image, 0, 0, round(width * scale), round(height * scale))
    _dots(axes, points, hidden or [False] * len(points), magnify=scale * max(height, width) / OVERLAY_SIDE)
    return png(figure)


def yaws(yaw: NDArray[np.floating]) -> str:
    """Histogram of yaw in degrees; NaN is left out."""
    figure = Figure(figsize=YAW_INCHES, layout="constrained")
    axes = figure.subplots()
    known = np.clip(yaw[np.isfinite(yaw)], -90, 90)
    shares = np.histogram(known, bins=36, range=(-90, 90))[0] / max(1, len(known))
    axes.bar(np.arange(-87.5, 90, 5), shares, width=4.2, color=LINES[0])
    axes.set_xlim(-92, 92)
    finish(axes, "", "", "")
    axes.set_yticks([])
    axes.set_xticks([-60, 0, 60], ["-60°", "yaw 0°", "60°"])
    return svg(figure)


def ced(errors: Mapping[str, Sequence[float]], of: str) -> str:
    """Cumulative errors of methods as the field draws them: mean error in per cent of the x best points; `of` names them."""
    figure = Figure(figsize=CHART_INCHES, layout="constrained")
    axes = figure.subplots()
    for number, (name, values) in enumerate(errors.items()):
        axes.plot(range(1, len(values) + 1), values, label=name, lw=1.8, color=LINES[number % len(LINES)])
    finish(axes, "", f"{of}, best first", "mean error so far, %")
    axes.legend(frameon=False, fontsize=8, labelcolor=INK)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return svg(figure)


def curves(places: Sequence[int], lines: Mapping[str, Sequence[float | None]], x: str, y: str) -> str:
    """Lines over places; None is a gap. `x` and `y` name the axes."""
    figure = Figure(figsize=CHART_INCHES, layout="constrained")
    axes = figure.subplots()
    for number, (name, values) in enumerate(lines.items()):
        heights = [np.nan if value is None else value for value in values]
        axes.plot(places, heights, "o-", ms=3, lw=1.6, color=LINES[number % len(LINES)], label=name)
    finish(axes, "", x, y)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, fontsize=8, labelcolor=INK)
    return svg(figure)


def loss_curves(metrics: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Losses over steps by stage, of records with `stage` and `step`; a stage with fewer than two steps has no curve.

    Every other float of a record is a loss, but for `time` and what ends in `seconds`. Of a step that a resumed run did
    twice, the later record counts.
    """
    records = [record for record in metrics if "stage" in record and "step" in record and _losses(record)]
    stages: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        stages.setdefault(str(record["stage"]), []).append(record)
    return {stage: _loss_chart(own) for stage, own in stages.items() if len({record["step"] for record in own}) > 1}


def _losses(record: Mapping[str, Any]) -> list[str]:
    names = [name for name, value in record.items() if isinstance(value, float)]
    return [name for name in names if name != "time" and not name.endswith("seconds")]


def _loss_chart(records: Sequence[Mapping[str, Any]]) -> str:
    figure = Figure(figsize=CHART_INCHES, layout="constrained")
    axes = figure.subplots()
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
    finish(axes, "", "step", "loss")
    axes.legend(frameon=False, fontsize=8, labelcolor=INK)
    return svg(figure)


def _smooth(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Running mean over a twenty-fifth of the curve."""
    total = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    position, reach = np.arange(len(values)), len(values) // 50
    first, last = np.maximum(position - reach, 0), np.minimum(position + reach + 1, len(values))
    return np.asarray((total[last] - total[first]) / (last - first))


def _dots(axes: Axes, points: NDArray[np.floating], hidden: Sequence[bool], magnify: float) -> None:
    numbered = len(points) <= NUMBERED
    for number, (colour, (x, y), hollow) in enumerate(zip(colours(len(points)), points, hidden, strict=True)):
        if np.isfinite(x) and np.isfinite(y):
            # The centre of the first pixel is 0 on the axes of a picture and 0.5 in points.
            _dot(axes, x - 0.5, y - 0.5, colour, radius=magnify * (7.5 if numbered else 4.5), hollow=hollow)
            if numbered:
                ink = colour if hollow else INK if np.dot(colour, (0.3, 0.59, 0.11)) > 0.45 else "white"
                label = axes.text(x - 0.5, y - 0.5, str(number), fontsize=6.7 * magnify, weight="bold", color=ink)
                label.set(ha="center", va="center_baseline")


def _dot(axes: Axes, x: float, y: float, colour: Rgb, radius: float, *, hollow: bool) -> None:
    size = 2 * radius * 72 / DPI
    if hollow:
        axes.plot(x, y, "o", ms=size, color=(0, 0, 0, 0.45), mec=colour, mew=1.8, clip_on=False)
        return
    axes.plot(x, y, "o", ms=size + 1.8, color=INK, mew=0, alpha=0.55, clip_on=False)
    axes.plot(x, y, "o", ms=size, color=colour, mec="white", mew=0.9, clip_on=False)


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
