"""Bars of several methods side by side, as SVG: errors by yaw, accuracy by point, purity by range (paper, Figures 3, 4, 7)."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from uldscale.evaluation.canvas import INK, LINES, svg
from uldscale.evaluation.plots import CHART_INCHES, finish

NAMED = 12
"""Groups whose names have room."""


def grouped(groups: Sequence[str], values: Mapping[str, Sequence[float | None]], x: str, y: str) -> str:
    """A group of bars for each of `groups`, in it one bar per method; None is no bar. `x` and `y` name the axes."""
    figure = Figure(figsize=CHART_INCHES, layout="constrained")
    axes = figure.subplots()
    width = 0.8 / max(1, len(values))
    for number, (name, heights) in enumerate(values.items()):
        places = np.arange(len(groups)) + width * (number - (len(values) - 1) / 2)
        drawn = [np.nan if height is None else height for height in heights]
        axes.bar(places, drawn, width=0.92 * width, color=LINES[number % len(LINES)], label=name)
    finish(axes, "", x, y)
    every = -(-len(groups) // NAMED)
    axes.set_xticks(np.arange(0, len(groups), every), groups[::every], color=INK, fontsize=8)
    axes.grid(axis="x", visible=False)
    axes.legend(frameon=False, fontsize=8, labelcolor=INK, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    return svg(figure)
