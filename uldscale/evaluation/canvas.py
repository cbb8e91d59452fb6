"""Figures laid out in pixels from the upper left corner, as PNG bytes."""

import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

DPI = 100


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
