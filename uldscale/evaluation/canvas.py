"""Figures, as PNG bytes laid out in pixels from the upper left corner, or as SVG whose colours are those of the page around it."""

import io
import re

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

DPI = 100
INK = "#1f2933"
QUIET = "#5c6773"
GRID = "#e4e9ee"
LINES = ("#2563eb", "#e8590c", "#0d9488", "#c026d3", "#a16207", "#64748b", "#4d7c0f", INK)
"""On white each line has a contrast of 3 and more, each word of 4.5."""
THEME = {
    **{line: f"--line-{number}" for number, line in enumerate(LINES)},
    INK: "--ink",
    QUIET: "--quiet",
    GRID: "--grid",
}
"""Names of the colours where a page chooses them."""


def canvas(width: int, height: int) -> Figure:
    """An empty white figure."""
    return Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")


def place(figure: Figure, left: float, top: float) -> tuple[float, float]:
    """Figure coordinates, 0 to 1 from the lower left corner, of a point in pixels."""
    return left / (figure.get_figwidth() * DPI), 1 - top / (figure.get_figheight() * DPI)


def add_axes(figure: Figure, left: int, top: int, width: int, height: int) -> Axes:
    """Axes over a rectangle."""
    x, y = place(figure, left, top + height)
    return figure.add_axes((x, y, width / (figure.get_figwidth() * DPI), height / (figure.get_figheight() * DPI)))


def picture(figure: Figure, image: NDArray[np.uint8], left: int, top: int, width: int, height: int) -> Axes:
    """Axes over a rectangle that an image (H, W, 3) fills, in its pixels: the centre of the first is 0."""
    axes = add_axes(figure, left, top, width, height)
    # Catmull-Rom keeps pixels as they are at full size; what matplotlib calls bicubic is a spline that blurs.
    axes.imshow(image, interpolation="catrom", aspect="auto")
    axes.set_axis_off()
    return axes


def png(figure: Figure) -> bytes:
    """The figure as PNG; equal figures give equal bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def svg(figure: Figure) -> str:
    """The figure as an SVG element to stand in a page: as wide as there is room, words as text, and the colours of THEME as CSS
    variables with these as their defaults. Equal figures give equal text.
    """
    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "uldscale"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawn = buffer.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    # Several figures of a page must neither style each other nor share an id; hashed ids are of equal things.
    drawn = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", drawn)
    drawn = re.sub(r'(<svg [^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg [^>]*?) height="[^"]*"', r"\1", drawn))
    for colour, name in THEME.items():
        drawn = drawn.replace(colour, f"var({name}, {colour})")
    return drawn
