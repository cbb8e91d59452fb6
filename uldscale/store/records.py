"""The two small documents of a shard, below the root of a store.

commits/00042.json        rows, view matrices and checksum of a finished shard, written last: the only truth about what
                          is done
attempts/00042.json       who wrote that shard, and in how many seconds
"""

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uldscale.store import arrays, places

REPAIR = "run store verify --repair, then the same job again"

_UNKNOWN = {"attempt": "", "seconds": 0.0}


def commit_key(shard: int) -> str:
    """Where the commit record of a shard is."""
    return f"commits/{shard:05d}.json"


def attempt_key(shard: int) -> str:
    """Where it is said who wrote a shard."""
    return f"attempts/{shard:05d}.json"


def commit_record(rows: range, views: NDArray[np.float32], checksum: str) -> dict[str, Any]:
    """Commit record of a shard: its rows, their view matrices (rows, V, 3, 3) and the checksum of all its content."""
    packed = base64.b64encode(views.astype("<f4").tobytes()).decode()
    return {"rows": [rows.start, rows.stop], "checksum": checksum, "views": packed}


def views_of(record: dict[str, Any] | None) -> NDArray[np.float32]:
    """View matrices (rows, V, 3, 3) of a commit record. Raises ValueError when it is damaged or not there."""
    try:
        known = record or {}
        start, stop = known["rows"]
        return np.frombuffer(base64.b64decode(known["views"], validate=True), "<f4").reshape(stop - start, -1, 3, 3)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"DATA_LOSS: no view matrices in a commit record ({error})") from error


class Records:
    """The documents of all shards of the store at `root`; all methods raise StoreError."""

    def __init__(self, root: str, place: Any) -> None:
        self._root, self._place = root, place

    def missing(self, shards: int) -> list[int]:
        """Those of the first `shards` shards that have no commit record."""
        with places.speaking_of(self._root, "cannot be listed"):
            done = {f"commits/{name}" for name in arrays.names(self._place / "commits/")}
        return [shard for shard in range(shards) if commit_key(shard) not in done]

    def commit(self, shard: int) -> dict[str, Any] | None:
        """Commit record of a shard; None when it is not finished."""
        return self.commits([shard])[0]

    def commits(self, shards: Sequence[int]) -> list[dict[str, Any] | None]:
        """Commit records of some shards; None for those that are not finished."""
        return self._read([commit_key(shard) for shard in shards])

    def attempts(self, shards: Sequence[int]) -> list[dict[str, Any]]:
        """Name and seconds of the attempts that wrote these shards; "" and 0 where it is not known."""
        return [found or _UNKNOWN for found in self._read([attempt_key(shard) for shard in shards])]

    def drop(self, shard: int) -> None:
        """Make a shard a missing one."""
        with places.speaking_of(self._root, f"keeps the record of shard {shard}"):
            arrays.remove_document(self._place, commit_key(shard))

    def _read(self, keys: Sequence[str]) -> list[dict[str, Any] | None]:
        # All are on their way at the same time: one after the other, those of 15,000 shards in a bucket take minutes.
        reading = [self._place.read(key) for key in keys]
        return [self._parsed(key, found) for key, found in zip(keys, reading, strict=True)]

    def _parsed(self, key: str, reading: Any) -> dict[str, Any] | None:
        with places.speaking_of(self._root, f"has a damaged {key} ({REPAIR})"):
            document: dict[str, Any] | None = arrays.parsed(reading)
        return document
