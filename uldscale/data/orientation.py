"""EXIF orientation: cameras store the pixels of a picture as their sensor lay, and say how to turn them.

Pixels are turned upright when an image is read. Points and boxes that somebody annotated on the stored pixels are turned along.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from uldscale.data.sources import Box

_TAG = 0x0112
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_MIRRORED_X, _MIRRORED_Y, _SWAPPED = {2, 3, 7, 8}, {3, 4, 6, 7}, {5, 6, 7, 8}
"""Orientations in which stored x counts from the right, stored y from below, and in which x and y then change places."""


@dataclass(frozen=True)
class Turn:
    """From the stored pixels of an image to the upright ones. Orientation 1 to 8; width and height of the stored pixels."""

    orientation: int = 1
    width: int = 0
    height: int = 0

    @property
    def sizes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """(width, height) of the upright and of the stored image."""
        stored = (self.width, self.height)
        return (stored[::-1] if self.orientation in _SWAPPED else stored), stored

    def pixels(self, stored: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W, 3) upright."""
        if self.orientation not in _TRANSPOSE:
            return stored
        return np.asarray(Image.fromarray(stored).transpose(_TRANSPOSE[self.orientation]))

    def points(self, stored: NDArray[np.float32]) -> NDArray[np.float32]:
        """(..., 2) upright."""
        x, y = stored[..., 0], stored[..., 1]
        x = self.width - x if self.orientation in _MIRRORED_X else x
        y = self.height - y if self.orientation in _MIRRORED_Y else y
        return np.stack([y, x] if self.orientation in _SWAPPED else [x, y], axis=-1)

    def box(self, stored: Box) -> Box:
        """(x0, y0, x1, y1) upright."""
        corners = self.points(np.reshape(stored, (2, 2)).astype(np.float64))
        (x0, y0), (x1, y1) = corners.min(0).tolist(), corners.max(0).tolist()
        return x0, y0, x1, y1


UPRIGHT = Turn()
"""Changes nothing."""


def turn_of(image: Image.Image) -> Turn:
    """What EXIF says of an image that Pillow has loaded; what is no orientation counts as none."""
    said = image.getexif().get(_TAG)
    return Turn(said if isinstance(said, int) and said in _TRANSPOSE else 1, image.width, image.height)
