"""Random reading of features with TensorStore: many chunks in flight, one copy from the page cache into the batch.

B requested samples, V views, T timesteps, L taps, C channels, H = W side of a map.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uldscale.errors import IncompleteError
from uldscale.store import arrays
from uldscale.store.features import FeatureStore, open_content

_RESOURCES = {
    # Without a pool TensorStore forgets the index of a shard after every read: two requests a sample instead of one.
    "cache_pool": {"total_bytes_limit": 256 * 2**20},
    "file_io_concurrency": {"limit": 32},
    "s3_request_concurrency": {"limit": 64},
    "gcs_request_concurrency": {"limit": 64},
}

Request = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Rows (B,) and views (B,)."""


class FeatureReader:
    """Reads samples of the shards that are committed when it is made. Raises StoreError."""

    def __init__(self, store: FeatureStore) -> None:
        self._root, self._spec = store.root, store.spec
        self._missing = np.array(store.missing_shards(), np.int64)
        with arrays.speaking_of(store.root, "cannot be read"):
            context = arrays.resources(_RESOURCES)
            self._arrays = open_content(arrays.open_root(store.root, context), store.spec, context)

    def read(self, rows: NDArray[np.int64], views: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Maps (B, T, L, C, H, W) of some samples by resolution, in the stored dtype.

        Raises IncompleteError for rows that are not extracted yet, StoreError when the stored bytes are damaged.
        """
        return self._collect(self._issue(rows, views))

    def prefetch(self, requests: Iterable[Request], depth: int = 2) -> Iterator[dict[str, NDArray[Any]]]:
        """What `read` gives for each request in turn, with `depth` further requests in flight. Raises like `read`."""
        pending: deque[dict[str, Any]] = deque()
        for rows, views in requests:
            pending.append(self._issue(rows, views))
            if len(pending) > depth:
                yield self._collect(pending.popleft())
        while pending:
            yield self._collect(pending.popleft())

    def _issue(self, rows: NDArray[np.int64], views: NDArray[np.int64]) -> dict[str, Any]:
        if np.any((rows < 0) | (rows >= self._spec.num_rows)) or np.any((views < 0) | (views >= self._spec.num_views)):
            raise IndexError(f"rows {rows}, views {views} of ({self._spec.num_rows}, {self._spec.num_views})")
        missing = np.intersect1d(rows // self._spec.shard_rows, self._missing)
        if len(missing):
            raise IncompleteError(
                f"{self._root}: shards {missing.tolist()} are not extracted yet; run the same job again"
            )
        return {name: self._arrays[name].vindex[rows, views].read() for name in self._spec.resolutions}

    def _collect(self, reading: dict[str, Any]) -> dict[str, NDArray[Any]]:
        with arrays.speaking_of(self._root, "is damaged; run store verify --repair, then the same job again"):
            return {name: future.result() for name, future in reading.items()}
