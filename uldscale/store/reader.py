"""Random reading of features: many samples in flight, from files or a bucket straight into the batch.

B requested samples, V views, T timesteps, L taps, C channels, H = W side of a map.
"""

import math
import weakref
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uldscale.errors import IncompleteError, StoreError
from uldscale.store import places
from uldscale.store.features import FeatureStore
from uldscale.store.sources import Maps, open_source

_KEPT = 4
"""Idle pieces of memory of one size: those of two batches in flight, one with the consumer, one that it has just had."""

Request = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Rows (B,) and views (B,)."""

Allocate = Callable[[tuple[int, ...], np.dtype[Any]], NDArray[Any]]
"""Gives an array of a shape and dtype, C-contiguous, whatever is in it."""


_Reading = tuple[Maps, list[Any]]
"""Maps that are being read, and the futures of it."""


class RecycledMemory:
    """Gives arrays in memory that is used again as soon as nothing refers to it any more, be it a view or a tensor.

    The kernel hands out fresh pages more slowly than they are read into: a reader that asks for new memory for every
    batch is 1.7 times slower (benchmarks/store_read.py).
    """

    def __init__(self) -> None:
        self._free: dict[int, deque[bytearray]] = defaultdict(lambda: deque(maxlen=_KEPT))

    def __call__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """An array of a shape and dtype, whatever is in it."""
        size = math.prod(shape) * dtype.itemsize
        free = self._free[size]
        memory = free.pop() if free else bytearray(size)
        # On memory that is itself an array, views would refer to that one and let go of this array.
        array: NDArray[Any] = np.ndarray(shape, dtype, buffer=memory)
        weakref.finalize(array, free.append, memory).atexit = False
        return array


class FeatureReader:
    """Reads samples of the shards that are committed when it is made. Raises StoreError.

    A batch belongs to the caller for as long as anything refers to it. `allocate` makes the memory of batches, such as
    pinned memory for a GPU; None = `RecycledMemory`.
    """

    def __init__(self, store: FeatureStore, allocate: Allocate | None = None) -> None:
        self._root, self._spec = store.root, store.spec
        self._allocate = allocate or RecycledMemory()
        self._missing = np.zeros(store.spec.num_shards, bool)
        self._missing[store.missing_shards()] = True
        with places.speaking_of(store.root, "cannot be read"):
            self._source = open_source(store.root, store.spec, store.cache)

    def read(self, rows: NDArray[np.int64], views: NDArray[np.int64]) -> Maps:
        """Maps (B, T, L, C, H, W) of some samples by resolution, in the stored dtype.

        Raises IncompleteError for rows that are not extracted yet, StoreError when the stored bytes are damaged.
        """
        return self._collect(self._issue(rows, views))

    def prefetch(self, requests: Iterable[Request], depth: int = 2) -> Iterator[Maps]:
        """What `read` gives for each request in turn, with `depth` further requests in flight. Raises like `read`."""
        pending: deque[_Reading] = deque()
        for rows, views in requests:
            pending.append(self._issue(rows, views))
            if len(pending) > depth:
                yield self._collect(pending.popleft())
        while pending:
            yield self._collect(pending.popleft())

    def in_parts(self, rows: NDArray[np.int64], size: int, view: int = 0) -> Iterator[tuple[NDArray[np.int64], Maps]]:
        """(at most `size` of the rows, their maps of one view), until all rows have had their turn; read ahead."""
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        return zip(parts, self.prefetch((part, np.full_like(part, view)) for part in parts), strict=True)

    def _issue(self, rows: NDArray[np.int64], views: NDArray[np.int64]) -> _Reading:
        if np.any((rows < 0) | (rows >= self._spec.num_rows)) or np.any((views < 0) | (views >= self._spec.num_views)):
            raise IndexError(f"rows {rows}, views {views} of ({self._spec.num_rows}, {self._spec.num_views})")
        shards = rows // self._spec.shard_rows
        missing = np.unique(shards[self._missing[shards]])
        if len(missing):
            raise IncompleteError(
                f"{self._root}: shards {missing.tolist()} are not extracted yet; run the same job again"
            )
        shapes = {name: (len(rows), *self._spec.shape(name)[2:]) for name in self._spec.resolutions}
        maps = {name: self._allocate(shape, np.dtype(self._spec.dtype)) for name, shape in shapes.items()}
        return maps, self._source.start(rows, views, maps)

    def _collect(self, reading: _Reading) -> Maps:
        maps, parts = reading
        with places.speaking_of(self._root, "is damaged; run store verify --repair, then the same job again"):
            try:
                for part in parts:
                    part.result()
            except OSError as error:
                raise StoreError(
                    f"{self._root} cannot be read: {error}; mend that and run the command again"
                ) from error
        return maps
