"""Landmarks on stored views, a few rows at a time: what actors of the role `locate` do, or this process.

Law: what is found is at rest in a folder, a file a chunk with one writer each, until all of it is; a kill costs the chunks in work.

N' rows that are looked at.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors import numpy as safetensors

from uldscale import files
from uldscale.data.index import ImageIndex
from uldscale.predictions import Predictions
from uldscale.runtime.alone import Alone
from uldscale.runtime.pool import Pool
from uldscale.runtime.progress import Progress

CHUNK = 64
"""Rows of an item of work."""


@dataclass(frozen=True)
class Chunk:
    """An item of work: rows of a view in which the landmarks of a method are sought."""

    method: str
    """Folder of the method."""
    part: str
    """File that takes what is found."""
    rows: tuple[int, ...]
    view: int
    fields: tuple[str, ...]
    """What is wanted, such as points and descriptors."""


class Seeker(Protocol):
    """What looks at rows."""

    def setup(self) -> None:
        """Make it ready."""

    def seek(self, chunk: Chunk) -> dict[str, NDArray[Any]]:
        """The wanted fields of all rows of a chunk."""


class SeekingWorker:
    """A worker that keeps what a seeker finds."""

    def __init__(self, seeker: Seeker) -> None:
        self._seeker = seeker
        self.setup = seeker.setup

    def process(self, chunk: Chunk) -> None:
        """Write the part of a chunk, whole."""
        found = {name: np.ascontiguousarray(values) for name, values in self._seeker.seek(chunk).items()}
        files.write_bytes(chunk.part, safetensors.save(found))


def seek(
    workers: Pool | Alone, method: str, rows: NDArray[np.int64], view: int, fields: Sequence[str], progress: Progress
) -> list[NDArray[Any]]:
    """The wanted fields (N', ...) of all rows of a view, in their order. `method` is a folder, which has the parts meanwhile."""
    folder = files.join(method, "parts")
    chunks, there = list(_chunks(method, folder, rows, view, tuple(fields))), set(files.names(folder))
    missing = [chunk for chunk in chunks if chunk.part.rpartition("/")[2] not in there]
    progress.advance(len(rows) - sum(len(chunk.rows) for chunk in missing))
    for done in workers.run(missing):
        progress.advance(len(done.item.rows))
    found = [safetensors.load(files.read_bytes(chunk.part)) for chunk in chunks]
    return [np.concatenate([part[name] for part in found]) for name in fields]


def sought(index: ImageIndex, all_rows: bool) -> NDArray[np.int64]:
    """Rows on which the landmarks of a method are sought: all, or those that measures and pictures are of."""
    return index.rows() if all_rows else np.union1d(index.judged(), index.annotated())


def lacks(path: str, rows: NDArray[np.int64]) -> bool:
    """Whether the predictions of a method in a file are not there, or not of all rows that are sought."""
    return not files.exists(path) or len(Predictions.read(path).ids) < len(rows)


def forget(method: str) -> None:
    """Remove the parts of a method, of which all is kept elsewhere."""
    files.remove(files.join(method, "parts"))


def _chunks(method: str, folder: str, rows: NDArray[np.int64], view: int, fields: tuple[str, ...]) -> Iterator[Chunk]:
    for start in range(0, len(rows), CHUNK):
        some = rows[start : start + CHUNK]
        part = f"{view}-{'-'.join(fields)}-{start}-{hashlib.sha256(some.tobytes()).hexdigest()[:16]}.safetensors"
        yield Chunk(method, files.join(folder, part), tuple(some.tolist()), view, fields)
