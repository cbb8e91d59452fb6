"""Where samples come from: files on a local disk, a bucket, or a bucket behind the cache of this node."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import tensorstore as ts
from numpy.typing import NDArray

from uldscale.runtime.cache import Cache, CacheConfig
from uldscale.store import places
from uldscale.store.features import open_content
from uldscale.store.records import Records
from uldscale.store.shards import ShardFiles
from uldscale.store.spec import StoreSpec

_RESOURCES = {
    # Without a pool TensorStore forgets the index of a shard after every read: two requests a sample instead of one.
    "cache_pool": {"total_bytes_limit": 256 * 2**20},
    "s3_request_concurrency": {"limit": 64},
    "gcs_request_concurrency": {"limit": 64},
}

_THREADS = 16
"""Reads of local files in flight; a disk gives more to many than to one."""

_TASK_BYTES = 2**20
"""What a thread reads of local files at a time, at least: handing it over takes 30 microseconds."""

_FETCH_BYTES = 16 * 2**20
"""What a thread fetches of a bucket at a time."""

PIECES = "uldscale-pieces"
"""Folder of a cache's own, in one where other things may be."""

Integers = NDArray[np.int64]

Maps = dict[str, NDArray[Any]]
"""Maps (B, T, L, C, H, W) by resolution."""


_Piece = tuple[str, int, int, int]
"""Of a sample: its shard's checksum, its place there, its place in the batch, and that among the samples of a thread."""


class Source(Protocol):
    """Gives samples of a store."""

    def start(self, rows: Integers, views: Integers, maps: Maps) -> list[Any]:
        """Begin to fill `maps` with samples; returns futures, whose results raise ValueError for damage, or OSError."""


def open_source(root: str, spec: StoreSpec, cache: CacheConfig | None) -> Source:
    """The source of the store at `root`, behind a cache if it is in a bucket.

    Raises ValueError when the store is not whole, StoreError when it is not reached, ConfigError for a cache out of order.
    """
    context = places.resources(_RESOURCES)
    place = places.open_root(root, context)
    arrays = open_content(place, spec, context)
    folder = places.local_folder(place)
    if folder is not None:
        return Threads(Files(folder, spec).fill, _TASK_BYTES * spec.num_views // spec.row_bytes)
    if cache is None:
        return Bucket(arrays)
    own = cache.updated(folder=f"{cache.folder}/{PIECES}")
    cached = CachedBucket(arrays, Records(root, place), Cache(own), spec)
    return Threads(cached.fill, _FETCH_BYTES * spec.num_views // spec.row_bytes)


class Threads:
    """A source whose samples are filled in by a function (places in the batch, rows, views, maps), a few at a time."""

    def __init__(self, fill: Callable[[Integers, Integers, Integers, Maps], None], samples: int) -> None:
        """`samples`: how many a thread fills at a time."""
        self._fill, self._samples = fill, max(1, samples)
        self._threads = ThreadPoolExecutor(_THREADS, "read")

    def start(self, rows: Integers, views: Integers, maps: Maps) -> list[Future[None]]:
        """As a Source; in the order of files, so that the views of an image are read together."""
        order = np.lexsort((views, rows))
        parts = np.split(order, range(self._samples, len(order), self._samples))
        return [self._threads.submit(self._fill, part, rows[part], views[part], maps) for part in parts]


class Files:
    """A store on a local disk."""

    def __init__(self, folder: str, spec: StoreSpec) -> None:
        self._files = {name: ShardFiles(folder + name, spec, name) for name in spec.resolutions}

    def fill(self, targets: Integers, rows: Integers, views: Integers, maps: Maps) -> None:
        """For Threads. Raises ValueError, OSError."""
        for target, row, view in zip(targets.tolist(), rows.tolist(), views.tolist(), strict=True):
            for name, files in self._files.items():
                files.read(row, view, maps[name][target])


class Bucket:
    """A store that TensorStore reaches."""

    def __init__(self, arrays: dict[str, Any]) -> None:
        self._arrays = arrays

    def start(self, rows: Integers, views: Integers, maps: Maps) -> list[Any]:
        """As a Source; TensorStore keeps what it knows of shards, and many requests in flight."""
        return [
            ts.array(maps[name], copy=False).write(array.vindex[rows, views]) for name, array in self._arrays.items()
        ]


class CachedBucket:
    """A store that TensorStore reaches, behind the cache of this node.

    A file of the cache has the name of a checksum of the shard: a shard that is written anew finds none of the old.
    """

    def __init__(self, arrays: dict[str, Any], records: Records, cache: Cache, spec: StoreSpec) -> None:
        self._arrays, self._records, self._cache = arrays, records, cache
        self._rows, self._views = spec.shard_rows, spec.num_views
        self._checksum = lru_cache(maxsize=None)(self._read_checksum)

    def fill(self, targets: Integers, rows: Integers, views: Integers, maps: Maps) -> None:
        """For Threads. Raises ValueError, StoreError, ConfigError."""
        shards, places = np.divmod(rows, self._rows)
        checksums = [self._checksum(shard) for shard in shards.tolist()]
        pieces = list(
            zip(checksums, (places * self._views + views).tolist(), targets.tolist(), range(len(rows)), strict=True)
        )
        lacking = {name: [piece for piece in pieces if not self._recall(name, piece, maps)] for name in maps}
        # All are on their way before the first is waited for; TensorStore fetches views that are side by side at once.
        fetched = {name: self._fetch(name, [at for *_, at in found], rows, views) for name, found in lacking.items()}
        for name, found in lacking.items():
            for (checksum, place, target, _), values in zip(
                found, fetched[name].result() if found else [], strict=True
            ):
                maps[name][target] = values
                self._cache.write(f"{checksum}.{name}", place, maps[name][target])

    def _recall(self, name: str, piece: _Piece, maps: Maps) -> bool:
        checksum, place, target, _ = piece
        return self._cache.read(f"{checksum}.{name}", place, maps[name][target])

    def _fetch(self, name: str, samples: list[int], rows: Integers, views: Integers) -> Any:
        return self._arrays[name].vindex[rows[samples], views[samples]].read() if samples else None

    def _read_checksum(self, shard: int) -> str:
        record = self._records.commit(shard)
        if record is None:
            raise ValueError(f"shard {shard} has lost its record")
        return str(record["checksum"])
