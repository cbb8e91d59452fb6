"""From records to rows: every image is opened once, decoded, hashed and measured; with `roi.objects: all` it has a row for each object.

Law: rows are a function of records, settings and contents alone, whoever inspects how many of them side by side.
"""

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa

from uldscale.data import images, roi
from uldscale.data.images import BrokenImage, Pixels
from uldscale.data.listing import DataConfig, Split, servers_of
from uldscale.data.orientation import UPRIGHT, Turn
from uldscale.data.renders import Renders
from uldscale.data.rows import ImageRow, tabulate
from uldscale.data.sources import Record, numbered


class Inspector:
    """Looks at the images of records, `readers` at a time; by default a few more than there are processors."""

    def __init__(self, config: DataConfig, readers: int | None = None, renders: Renders | None = None) -> None:
        """Keeps generated images in `renders`. Raises DataError when the regions of interest of the settings cannot be had."""
        self._find, self._servers = roi.make_provider(config.roi), servers_of(config)
        self._exif, self._provider = config.exif, config.roi.provider
        self._readers, self._renders = readers, renders

    def inspect(self, listed: Sequence[tuple[Split, Record]]) -> pa.Table:
        """The rows of each record, in their order; those of one image are `a`, `a#2`, `a#3` and so on."""
        with ThreadPoolExecutor(self._readers) as pool:
            return tabulate(list(chain.from_iterable(pool.map(lambda item: self._rows(*item), listed))))

    def _rows(self, split: Split, record: Record) -> list[ImageRow]:
        blank = ImageRow(
            record.id, record.uri, split, 0, 0, (0.0,) * 4, "", 0, None, None, record.yaw, "quarantined", ""
        )
        row = replace(blank, landmarks=record.landmarks, visible=record.visible)
        try:
            if record.broken:
                raise BrokenImage(record.broken)
            with opened(record.uri, self._servers) as image:
                if self._renders and image.content is None:
                    self._renders.keep(record.uri, image.pixels)
                row = replace(
                    row, width=image.width, height=image.height, sha256=image.sha256, crc32c=image.crc32c, **image.truth
                )
                turn = self._turn(record, image.turn)
                if record.landmarks is not None:
                    row = replace(row, landmarks=turn.points(record.landmarks))
                return self._objects(row, record, image.pixels, turn)
        except BrokenImage as problem:
            return [replace(row, reason=problem.reason)]

    def _objects(self, row: ImageRow, record: Record, pixels: Pixels, turn: Turn) -> list[ImageRow]:
        try:
            boxes = self._find(record, pixels, turn)
        except BrokenImage as problem:
            return [replace(row, status="no_region", reason=problem.reason)]
        return [replace(row, id=numbered(record.id, i), roi=box, status="ok") for i, box in enumerate(boxes)]

    def _turn(self, record: Record, turn: Turn) -> Turn:
        """How the record's annotation becomes upright. Raises BrokenImage when it is of another image, or nobody can know."""
        upright, stored = turn.sizes
        if record.extent and record.extent not in (upright, stored):
            said, is_ = ("{} x {}".format(*size) for size in (record.extent, upright))
            raise BrokenImage(f"annotated as {said} px, but the image is {is_} px")
        annotated = record.landmarks is not None or self._provider in ("annotation", "file")
        if turn.orientation == 1 or not annotated or self._exif == "upright":
            return UPRIGHT
        if self._exif == "stored":
            return turn
        if record.extent == upright != stored:
            return UPRIGHT
        raise BrokenImage(
            f"EXIF orientation {turn.orientation} turns this image, and its annotation may count pixels before or after that: look at one, "
            "then set data.exif to stored (before) or upright (after)"
        )


@dataclass(frozen=True, eq=False)
class OpenImage:
    """An image in memory, and what it was made from."""

    pixels: Pixels
    content: bytes | None
    """Of the file; None for a generated image."""
    turn: Turn = UPRIGHT
    """What made it upright."""
    truth: dict[str, Any] = field(default_factory=dict)
    """What a generated image knows about itself: fields of ImageRow."""

    @property
    def width(self) -> int:
        """In pixels."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """In pixels."""
        return int(self.pixels.shape[0])

    @property
    def sha256(self) -> str:
        """Digest of the file, or of the pixels of a generated image."""
        return images.sha256(self.pixels if self.content is None else self.content)

    @property
    def crc32c(self) -> int:
        """Checksum of the same."""
        return int(google_crc32c.value(np.ascontiguousarray(self.pixels) if self.content is None else self.content))


@contextmanager
def opened(uri: str, servers: Collection[str]) -> Iterator[OpenImage]:
    """The image at a place, for a block: until its end it has a share of the memory of this process. Raises BrokenImage."""
    if uri.startswith(images.GENERATED):
        face = images.render(uri)
        truth = {"landmarks": face.landmarks, "visible": face.visible, "yaw": face.yaw}
        yield OpenImage(face.image, None, truth=truth)
        return
    with images.fetched(uri, servers) as content, images.unfolded(content) as (pixels, turn):
        yield OpenImage(pixels, content, turn)
