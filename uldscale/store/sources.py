"""Where samples come from: files on a local disk, or a bucket."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import tensorstore as ts
from numpy.typing import NDArray

from uldscale.store import places
from uldscale.store.features import open_content
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
"""What a thread reads at a time, at least: handing it over takes 30 microseconds."""

Integers = NDArray[np.int64]

Maps = dict[str, NDArray[Any]]
"""Maps (B, T, L, C, H, W) by resolution."""


class Source(Protocol):
    """Gives samples of a store."""

    def start(self, rows: Integers, views: Integers, maps: Maps) -> list[Any]:
        """Begin to fill `maps` with samples; returns futures, whose results raise ValueError for damage, or OSError."""


def open_source(root: str, spec: StoreSpec) -> Source:
    """The source of the store at `root`. Raises ValueError when it is not whole, StoreError when it is not reached."""
    context = places.resources(_RESOURCES)
    place = places.open_root(root, context)
    arrays = open_content(place, spec, context)
    folder = places.local_folder(place)
    return Bucket(arrays) if folder is None else Files(folder, spec)


class Files:
    """A store on a local disk."""

    def __init__(self, folder: str, spec: StoreSpec) -> None:
        self._files = {name: ShardFiles(folder + name, spec, name) for name in spec.resolutions}
        self._samples = max(1, _TASK_BYTES * spec.num_views // spec.row_bytes)
        self._threads = ThreadPoolExecutor(_THREADS, "read")

    def start(self, rows: Integers, views: Integers, maps: Maps) -> list[Future[None]]:
        """As a Source, a few samples to a thread; in the order of files, so that the views of an image are read together."""
        order = np.lexsort((views, rows))
        parts = np.split(order, range(self._samples, len(order), self._samples))
        return [self._threads.submit(self._fill, part, rows[part], views[part], maps) for part in parts]

    def _fill(self, targets: Integers, rows: Integers, views: Integers, maps: Maps) -> None:
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
