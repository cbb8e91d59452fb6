"""From records to rows: every image is opened once, decoded, hashed and measured.

Law: rows are a function of records, settings and contents alone, whoever inspects how many of them side by side.
"""

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa

from uldscale.data import images, roi
from uldscale.data.images import BrokenImage, Pixels
from uldscale.data.listing import DataConfig, Split, servers_of
from uldscale.data.rows import ImageRow, tabulate
from uldscale.data.sources import Record


class Inspector:
    """Looks at the images of records, `readers` at a time; by default a few more than there are processors."""

    def __init__(self, config: DataConfig, readers: int | None = None) -> None:
        """Raises DataError when the regions of interest of the settings cannot be had."""
        self._find, self._servers = roi.make_provider(config.roi), servers_of(config)
        self._readers = readers

    def inspect(self, listed: Sequence[tuple[Split, Record]]) -> pa.Table:
        """A row for each record, in their order."""
        with ThreadPoolExecutor(self._readers) as pool:
            return tabulate(list(pool.map(lambda item: self._row(*item), listed)))

    def _row(self, split: Split, record: Record) -> ImageRow:
        blank = ImageRow(
            record.id, record.uri, split, 0, 0, (0.0,) * 4, "", 0, None, None, record.yaw, "quarantined", ""
        )
        row = replace(blank, landmarks=record.landmarks, visible=record.visible)
        try:
            if record.broken:
                raise BrokenImage(record.broken)
            with opened(record.uri, self._servers) as image:
                row = replace(
                    row, width=image.width, height=image.height, sha256=image.sha256, crc32c=image.crc32c, **image.truth
                )
                if record.extent and record.extent != (row.width, row.height):
                    said = "{} x {}".format(*record.extent)
                    raise BrokenImage(f"annotated as {said} px, but the image is {row.width} x {row.height} px")
                return replace(row, roi=self._find(record, image.pixels), status="ok")
        except BrokenImage as problem:
            return replace(row, reason=problem.reason)


@dataclass(frozen=True, eq=False)
class OpenImage:
    """An image in memory, and what it was made from."""

    pixels: Pixels
    content: bytes | None
    """Of the file; None for a generated image."""
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
    if uri.startswith("faces3d:"):
        face = images.render(uri)
        yield OpenImage(face.image, None, {"landmarks": face.landmarks, "visible": face.visible, "yaw": face.yaw})
        return
    with images.fetched(uri, servers) as content, images.unfolded(content) as pixels:
        yield OpenImage(pixels, content)
