"""Landmarks on stored views, a few rows at a time: what actors of the role `locate` do, or this process.

N' rows that are looked at.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    rows: tuple[int, ...]
    view: int
    fields: tuple[str, ...]
    """What is wanted, such as points and descriptors."""


def seek(
    workers: Pool | Alone, method: str, rows: NDArray[np.int64], view: int, fields: Sequence[str], progress: Progress
) -> list[NDArray[Any]]:
    """The wanted fields (N', ...) of all rows of a view, in their order."""
    chunks = list(_chunks(method, rows, view, tuple(fields)))
    found: dict[Chunk, list[NDArray[Any]]] = {}
    for done in workers.run(chunks):
        found[done.item] = done.result
        progress.advance(len(done.item.rows))
    return [np.concatenate(values) for values in zip(*(found[chunk] for chunk in chunks), strict=True)]


def _chunks(method: str, rows: NDArray[np.int64], view: int, fields: tuple[str, ...]) -> Iterator[Chunk]:
    for start in range(0, len(rows), CHUNK):
        yield Chunk(method, tuple(rows[start : start + CHUNK].tolist()), view, fields)
