"""Boxes (x0, y0, x1, y1) in pixels: squares around objects, and detections that are objects of their own."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from uldscale.data.images import BrokenImage, Pixels
from uldscale.data.sources import Box

_FARTHEST = 4.0  # a box this many times wider than the image is a mistake, not a region
_SAME = 0.5  # overlap, as intersection over union, from which on two detections are one object


def square(box: Box, margin: float) -> Box:
    """The square around the centre of a box; side: the longer side of the box, plus margin of it at either end."""
    x0, y0, x1, y1 = box
    half = max(x1 - x0, y1 - y0) * (0.5 + margin)
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    return x - half, y - half, x + half, y + half


def margin_of(border: float) -> float:
    """The margin around a box whose crop has this border: `RoiConfig.border` the other way round, to nine digits."""
    return round(border / (1 - 2 * border), 9)


def by_size(boxes: Sequence[Box]) -> list[Box]:
    """Boxes by falling area, those of one area by their places: an order that no detector decides."""
    return sorted(boxes, key=lambda box: (-(box[2] - box[0]) * (box[3] - box[1]), box))


def distinct(boxes: NDArray[np.floating], scores: NDArray[np.floating]) -> list[Box]:
    """Boxes (n, 4) without those that overlap one of a higher score by half: non-maximum suppression."""
    kept: list[NDArray[np.floating]] = []
    for box in boxes[np.argsort(-scores, kind="stable")]:
        if all(_overlap(box, other) < _SAME for other in kept):
            kept.append(box)
    return [as_box(box) for box in kept]


def shows(image: Pixels, box: Box) -> bool:
    """Whether a detection is on the image (H, W, 3): OWLv2 finds things in the grey with which it makes an image square, too."""
    height, width = image.shape[:2]
    x0, y0, x1, y1 = box
    return max(x1 - x0, y1 - y0) >= 1 and 0 <= x0 + x1 <= 2 * width and 0 <= y0 + y1 <= 2 * height


def as_box(values: NDArray[np.floating]) -> Box:
    """Four numbers as a box."""
    x0, y0, x1, y1 = map(float, values)
    return x0, y0, x1, y1


def checked(box: Box, image: Pixels) -> Box:
    """The box, when an image (H, W, 3) has an object there. Raises BrokenImage for one that is a mistake."""
    height, width = image.shape[:2]
    x0, y0, x1, y1 = box
    text = "region ({:g}, {:g}, {:g}, {:g})".format(*box)
    if not x1 - x0 >= 1:
        raise BrokenImage(f"{text} is less than a pixel wide")
    if x1 - x0 > _FARTHEST * max(width, height):
        raise BrokenImage(f"{text} is over {_FARTHEST:g} times as wide as the image of {width} x {height} px")
    if not (0 <= (x0 + x1) / 2 <= width and 0 <= (y0 + y1) / 2 <= height):
        raise BrokenImage(f"{text} has its centre outside the image of {width} x {height} px")
    return box


def _overlap(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Intersection over union; 0 of two empty boxes."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    both = float(np.prod(np.maximum(sides, 0)))
    either = float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - both
    return both / either if either > 0 else 0.0
