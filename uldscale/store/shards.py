"""Samples straight out of the shard files of an array on a local disk, by what the Zarr v3 specification says of them.

A shard file (codec sharding_indexed) holds the inner chunks, each with its crc32c behind it, and at its end the index:
offset and size of each chunk, and a crc32c. TensorStore reads the same, but with copies and hops between threads that
take 3.7 times the processor's time of this (1.75 instead of 0.47 s a GB on a busy machine: benchmarks/store_read.py).

Law: what comes out is what was written, or ValueError.
"""

import os
import weakref
from functools import lru_cache
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from uldscale.store.spec import StoreSpec

_OPEN_FILES = 96
"""Of an array: the shards of a window of batches (sampling.py) and some more; a process may open 1,024 files."""

_CRC = 4


class ShardFiles:
    """The shard files of the array `name`, in `folder`."""

    def __init__(self, folder: str, spec: StoreSpec, name: str) -> None:
        self._pattern = f"{folder}/c.{{}}" + ".0" * (len(spec.shape(name)) - 1)
        self._rows, self._views = spec.shard_rows, spec.num_views
        self._shard = lru_cache(maxsize=_OPEN_FILES)(self._open)

    def read(self, row: int, view: int, maps: NDArray[Any]) -> None:
        """Fill the maps (T, L, C, H, W) of a sample, C-contiguous. Raises ValueError when they are damaged, OSError."""
        shard, place = divmod(row, self._rows)
        self._shard(shard).read(place * self._views + view, maps)

    def _open(self, shard: int) -> "_Shard":
        return _Shard(self._pattern.format(shard), self._rows * self._views)


class _Shard:
    """One file, open for as long as anything refers to it."""

    def __init__(self, path: str, chunks: int) -> None:
        self._path = path
        try:
            self._file = os.open(path, os.O_RDONLY)
        except FileNotFoundError as error:
            raise ValueError(f"{path} is missing") from error
        weakref.finalize(self, os.close, self._file)
        index = np.empty((chunks, 2), "<u8")
        self._fill(index, max(0, os.fstat(self._file).st_size - index.nbytes - _CRC), "index")
        self._index: list[list[int]] = index.tolist()

    def read(self, chunk: int, maps: NDArray[Any]) -> None:
        offset, size = self._index[chunk]
        # A chunk that was never written has the largest numbers there are for both.
        if size != maps.nbytes + _CRC:
            raise ValueError(f"{self._path} lacks chunk {chunk}")
        self._fill(maps, offset, f"chunk {chunk}")

    def _fill(self, values: NDArray[Any], offset: int, part: str) -> None:
        checksum = bytearray(_CRC)
        count = os.preadv(self._file, [values.data, checksum], offset)
        if count != values.nbytes + _CRC or google_crc32c.value(values) != int.from_bytes(checksum, "little"):
            raise ValueError(f"{self._path} has a damaged {part}")
