"""What a node has fetched from far away, in local files that all its processes share.

Pieces of one size lie side by side in sparse files, each with its crc32c behind it, which alone says whether it is there: a
hole, and what a kill left half written, have another. So readers and writers need no locks and no records.

Laws: what comes out is what was put in, or nothing. Whatever is put in again has the same bytes.
"""

import fcntl
import os
from pathlib import Path
from typing import Any

import google_crc32c
from numpy.typing import NDArray
from pydantic import Field, field_validator

from uldscale.config import Settings
from uldscale.errors import ConfigError

_CRC = 4
_LOCK = "lock"

_STEP = 0.01
"""Share of the limit that a process writes before it looks how full the cache is."""
_KEPT = 0.9
"""Share of the limit that is left when it is full: ten processes that write one step each stay below it."""


class CacheConfig(Settings):
    """Where a node keeps what it has read from a bucket."""

    folder: str
    """Local folder, best on a fast disk of the node; made when it is not there. What else is in it stays."""
    gib: float = Field(gt=0)
    """Largest size in GiB; what was used longest ago goes first."""

    @field_validator("folder")
    @classmethod
    def _local(cls, folder: str) -> str:
        if "://" in folder:
            raise ValueError(f"must be a folder on a local disk, got {folder}")
        return folder


class Cache:
    """Any number of processes may have the same one; all that is in its folder is its own, to be removed.

    Raises ConfigError when the folder cannot be written.
    """

    def __init__(self, config: CacheConfig) -> None:
        self._folder, self._limit = Path(config.folder).expanduser(), int(config.gib * 2**30)
        # The folder may be full of what another limit allowed.
        self._unseen = self._limit
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable(error) from error

    def read(self, name: str, place: int, values: NDArray[Any]) -> bool:
        """Fill `values`, C-contiguous, with the piece at a place in the file of a name; says whether it is there."""
        try:
            file = os.open(self._folder / name, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            checksum = bytearray(_CRC)
            count = os.preadv(file, [values.data, checksum], place * (values.nbytes + _CRC))
            os.utime(file)
        finally:
            os.close(file)
        return count == values.nbytes + _CRC and google_crc32c.value(values) == int.from_bytes(checksum, "little")

    def write(self, name: str, place: int, values: NDArray[Any]) -> None:
        """Put a piece, C-contiguous and below 2 GiB, at a place in the file of a name."""
        checksum = google_crc32c.value(values).to_bytes(_CRC, "little")
        try:
            file = os.open(self._folder / name, os.O_WRONLY | os.O_CREAT, 0o644)
            try:
                os.pwritev(file, [values.data, checksum], place * (values.nbytes + _CRC))
            finally:
                os.close(file)
            self._make_room(values.nbytes)
        except OSError as error:
            raise self._unusable(error) from error

    def _make_room(self, written: int) -> None:
        self._unseen += written
        if self._unseen < _STEP * self._limit:
            return
        self._unseen = 0
        with open(self._folder / _LOCK, "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            self._evict()

    def _evict(self) -> None:
        files = [(path, path.stat()) for path in self._folder.iterdir() if path.name != _LOCK]
        # A sparse file is as large as what was written to it.
        used = sum(state.st_blocks for _, state in files) * 512
        if used <= _KEPT * self._limit:
            return
        for path, state in sorted(files, key=lambda entry: entry[1].st_mtime_ns):
            path.unlink(missing_ok=True)
            used -= state.st_blocks * 512
            if used <= _KEPT * self._limit:
                return

    def _unusable(self, error: OSError) -> ConfigError:
        return ConfigError(
            f"the cache {self._folder} cannot be used: {error}; make room, or set runtime.cache to another folder or size"
        )
