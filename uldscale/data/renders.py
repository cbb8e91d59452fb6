"""Generated images in a folder beside the index, so that each is rendered once.

Law: an image comes out as its row describes it, or not at all; whoever lacks one renders it again.
"""

import os
from contextlib import suppress
from typing import Self

import google_crc32c
import numpy as np

from uldscale import files
from uldscale.data.images import GENERATED, Pixels
from uldscale.data.rows import ImageRow
from uldscale.errors import ConfigError
from uldscale.runtime.cache import Cache, CacheConfig

GIB = 1.0
"""Of a folder, in GiB: 20,000 faces of 128 px. With more, those that were used longest ago are rendered again."""
TOGETHER = 1000
"""Seeds whose images lie in one file."""


class Renders:
    """Any number of processes may have the same folder."""

    def __init__(self, folder: str) -> None:
        self._cache = Cache(CacheConfig(folder=folder, gib=GIB))

    @staticmethod
    def beside(index: str) -> str:
        """The folder of the index at a path."""
        return files.join(os.path.dirname(index) or ".", "renders")

    @classmethod
    def of(cls, index: str) -> Self | None:
        """Those of the index at a path; None where there are none."""
        folder = cls.beside(index)
        return cls(folder) if os.path.isdir(folder) else None

    def keep(self, uri: str, pixels: Pixels) -> None:
        """Put the image (H, W, 3) of a URI there, unless the disk is full."""
        with suppress(ConfigError):
            self._cache.write(*_place(uri), np.ascontiguousarray(pixels))

    def find(self, row: ImageRow) -> Pixels | None:
        """The image (H, W, 3) of a row, as it was when it was indexed; None when it is not there."""
        if not row.uri.startswith(GENERATED):
            return None
        pixels = np.empty((row.height, row.width, 3), np.uint8)
        there = self._cache.read(*_place(row.uri), pixels)
        return pixels if there and google_crc32c.value(pixels) == row.crc32c else None


def _place(uri: str) -> tuple[str, int]:
    """File, and place in it, of faces3d:SIZE/MAXYAW/SEED."""
    size, max_yaw, seed = uri.removeprefix(GENERATED).split("/")
    file, place = divmod(int(seed), TOGETHER)
    return f"{size}-{max_yaw}-{file}", place
