"""Images of the report: crops with their landmarks as dots above them, so that a page enlarges them as it likes.

K landmarks; points are unit coordinates of the crop, NaN = missing.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from matplotlib.colors import to_hex
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from uldscale.data.index import ImageIndex
from uldscale.evaluation.plots import NUMBERED, Rgb, colours
from uldscale.formats import SEEN

Pixels = NDArray[np.uint8]

BLACK, WHITE = "#000000", "#ffffff"
PATCH, PATCH_SHARE = 72, 0.3
"""Side in pixels of a landmark's surroundings, and how much of the crop they are."""
STRIP_SIDE = 96
"""Side in pixels of the images of a strip."""


@dataclass(frozen=True)
class Dot:
    """A landmark on a tile, in percent of it."""

    x: float
    y: float
    number: int
    name: str
    colour: str
    ink: str
    """Of the number on the colour."""
    hidden: bool = False


@dataclass(frozen=True)
class Tile:
    """One crop with landmarks."""

    caption: str
    alt: str
    jpeg: str
    """Base64."""
    dots: list[Dot]
    numbered: bool


@dataclass(frozen=True, eq=False)
class Album:
    """Makes tiles of the images of an index, each of which is loaded once. `names`: those of the K landmarks."""

    index: ImageIndex
    size: int
    names: Sequence[str]
    _crops: dict[int, Pixels] = field(default_factory=dict)

    @cached_property
    def palette(self) -> list[Rgb]:
        """A colour for each landmark."""
        return colours(len(self.names))

    @cached_property
    def hexes(self) -> list[str]:
        """The same as #rrggbb."""
        return [to_hex(colour) for colour in self.palette]

    def of(self, names: Sequence[str]) -> "Album":
        """Of the same images, for a method with other landmarks."""
        return Album(self.index, self.size, names, self._crops)

    def crop(self, row: int) -> Pixels:
        """(S, S, 3) of a row."""
        if row not in self._crops:
            self._crops[row] = self.index.load(row, self.size)
        return self._crops[row]

    def tile(
        self, row: int, points: NDArray[np.floating], note: str = "", seen: NDArray[np.floating] | None = None
    ) -> Tile:
        """A row with its landmarks (K, 2), of which some are known to be rather `seen` (K,) than hidden."""
        name, hidden = self.index.row(row).id, None if seen is None else seen < SEEN
        return self._tile(self.crop(row), points, f"{name}{note and f': {note}'}", name, hidden)

    def mean(self, rows: NDArray[np.int64], points: NDArray[np.floating]) -> Tile:
        """The mean of some rows, with landmarks (K, 2)."""
        mean = np.mean([self.crop(int(row)) for row in rows], axis=0).round().astype(np.uint8)
        return self._tile(mean, points, f"mean of {len(rows)} images, landmarks at their median places", "mean image")

    def patches(self, rows: Sequence[int], points: NDArray[np.floating], landmark: int) -> str:
        """Surroundings of one landmark side by side, its place (n, 2) on some rows ringed: JPEG, base64; empty without a row."""
        strip = Image.new("RGB", (max(1, len(rows)) * PATCH, PATCH))
        for number, (row, (x, y)) in enumerate(zip(rows, points * self.size, strict=True)):
            reach = PATCH_SHARE * self.size / 2
            box = tuple(round(side) for side in (x - reach, y - reach, x + reach, y + reach))
            patch = Image.fromarray(self.crop(row)).crop(box).resize((PATCH, PATCH), Image.Resampling.BICUBIC)
            _ring(patch, to_hex(self.palette[landmark]))
            strip.paste(patch, (number * PATCH, 0))
        return jpeg(np.asarray(strip)) if len(rows) else ""

    def strip(self, rows: NDArray[np.int64], columns: int) -> str:
        """Rows without landmarks, so many side by side: JPEG, base64; empty without a row."""
        if not len(rows):
            return ""
        lines = -(-len(rows) // columns)
        strip = Image.new("RGB", (min(columns, len(rows)) * STRIP_SIDE, lines * STRIP_SIDE))
        for number, row in enumerate(rows):
            small = Image.fromarray(self.crop(int(row))).resize((STRIP_SIDE, STRIP_SIDE), Image.Resampling.LANCZOS)
            strip.paste(small, (number % columns * STRIP_SIDE, number // columns * STRIP_SIDE))
        return jpeg(np.asarray(strip))

    def _tile(
        self,
        crop: Pixels,
        points: NDArray[np.floating],
        caption: str,
        name: str,
        hidden: NDArray[np.bool_] | None = None,
    ) -> Tile:
        hollow = np.zeros(len(points), bool) if hidden is None else hidden
        dots = [
            Dot(round(100 * x, 1), round(100 * y, 1), number, label, to_hex(colour), ink_on(colour), bool(hide))
            for number, ((x, y), label, colour, hide) in enumerate(
                zip(points.tolist(), self.names, self.palette, hollow, strict=True)
            )
            if np.isfinite(x) and np.isfinite(y)
        ]
        alt = f"{name} with {len(dots)} of {len(points)} landmarks"
        return Tile(caption, alt, jpeg(crop), dots, numbered=len(points) <= NUMBERED)


def ink_on(colour: Rgb) -> str:
    """Black or white, whichever is easier to read on a colour: one of them has a contrast of 4.5 or more."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour]
    luminance = float(np.dot(linear, (0.2126, 0.7152, 0.0722)))
    return BLACK if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else WHITE


def jpeg(pixels: Pixels) -> str:
    """Base64."""
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "JPEG", quality=85)
    return base64.b64encode(sink.getvalue()).decode()


def _ring(patch: Image.Image, colour: str) -> None:
    draw, middle = ImageDraw.Draw(patch), PATCH / 2
    for radius, width, fill in ((9, 4, BLACK), (8, 2, colour)):
        draw.ellipse([middle - radius, middle - radius, middle + radius, middle + radius], outline=fill, width=width)
