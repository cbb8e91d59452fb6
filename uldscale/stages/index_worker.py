"""The worker of the verb `index`: opens the images of some records and writes their rows."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from uldscale import files
from uldscale.data.inspection import Inspector
from uldscale.data.listing import DataConfig, Split
from uldscale.data.renders import Renders
from uldscale.data.rows import SCHEMA, write_table
from uldscale.data.sources import Record, read_text

CHUNK = 64
"""Images of an item of work; a kill costs those in work."""

Listed = Sequence[tuple[Split, Record]]


@dataclass(frozen=True)
class Chunk:
    """An item of work: records, and the file that takes their rows."""

    part: str
    listed: Listed = field(repr=False)


@dataclass(frozen=True)
class Blueprint:
    """Builds a worker in the process that shall work."""

    config: DataConfig
    readers: int | None
    """Images that it opens at a time; None: a few more than there are processors."""
    renders: str | None = None
    """Folder in which it keeps generated images."""

    def __call__(self) -> "IndexWorker":
        return IndexWorker(self)


class IndexWorker:
    """Works on chunks."""

    def __init__(self, blueprint: Blueprint) -> None:
        self._blueprint = blueprint

    def setup(self) -> None:
        """Read the regions of interest. Raises DataError when they cannot be had."""
        folder = self._blueprint.renders
        renders = Renders(folder) if folder else None
        self._inspector = Inspector(self._blueprint.config, self._blueprint.readers, renders)

    def process(self, chunk: Chunk) -> None:
        """Write the part of a chunk, whole."""
        write_table(chunk.part, self._inspector.inspect(chunk.listed))


def chunks(listed: Listed, config: DataConfig, folder: str) -> list[Chunk]:
    """All records in their order, with the parts in `folder` that take them."""
    starts = range(0, len(listed), CHUNK)
    settings = f"{SCHEMA}{config.fingerprint()}".encode() + _boxes(config)
    return [
        _chunk(number, tuple(listed[start : start + CHUNK]), settings, folder) for number, start in enumerate(starts)
    ]


def _boxes(config: DataConfig) -> bytes:
    """Content of the box file; empty without one."""
    return read_text(config.roi.file).encode() if config.roi.file else b""


def _chunk(number: int, listed: tuple[tuple[Split, Record], ...], settings: bytes, folder: str) -> Chunk:
    # A part is named after all that its rows depend on but the images: one that was made from other records is never taken for it.
    digest = hashlib.sha256(settings)
    for split, record in listed:
        plain = (split, record.id, record.uri, record.yaw, record.box, record.extent, record.broken)
        digest.update(ascii(plain).encode())
        for array in (record.landmarks, record.visible):
            digest.update(b"-" if array is None else array.tobytes())
    return Chunk(files.join(folder, f"{number:06d}-{digest.hexdigest()[:16]}.parquet"), listed)
