"""Rounds of pseudo-labels at rest: arrays that the ranks write side by side, each its blocks of rows.

    labels/00003/labelling.safetensors   what was fitted
                 rows.zarr               points and scores: float32 (N, K, 2) unit coordinates in view 0, NaN where missing, and (N, K) in
                                         [0, 1]; poses and codes: int16 (N,), -1 for an image without labels, and float32 (N, Z)
                 round.json              written last; a round without it does not count

Law: the number of writers changes no byte, and a crash leaves the round before.

N rows of the store, N' of some images, K labels, Z latent.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import numpy as safetensors

from uldscale import files
from uldscale.errors import IncompleteError
from uldscale.store import arrays, places

_LABELLING, _ROWS, _RECORD = "labelling.safetensors", "rows.zarr", "round.json"
LEAST_BLOCK, BLOCKS = 32, 1024
"""Rows in a block, which one rank writes, and about how many blocks there are of large data."""
_INNER = 256
"""Rows that are read at once."""
_CACHE = {"cache_pool": {"total_bytes_limit": 128 * 2**20}}


@dataclass(frozen=True, eq=False)
class Exemplars:
    """Labels of some images: at most one point an image and label."""

    rows: NDArray[np.int64]
    """(N',) of the store."""
    points: NDArray[np.float32]
    """(N', K, 2) unit coordinates, NaN where missing."""
    scores: NDArray[np.float32]
    """(N', K) confidence of the keypoint in [0, 1]."""
    distances: NDArray[np.float32]
    """(N', K) of the descriptor from its centroid; not kept."""
    poses: NDArray[np.int16]
    """(N',) -1 for an image without labels."""
    codes: NDArray[np.float32]
    """(N', Z) pose code; Z may be 0."""

    @classmethod
    def none(cls, rows: NDArray[np.int64], count: int, latent: int) -> Self:
        """No label at all on some images."""
        some = len(rows)
        return cls(
            rows,
            np.full((some, count, 2), np.nan, np.float32),
            np.zeros((some, count), np.float32),
            np.zeros((some, count), np.float32),
            np.full(some, -1, np.int16),
            np.zeros((some, latent), np.float32),
        )

    @property
    def found(self) -> NDArray[np.bool_]:
        """(N', K) where there is a label."""
        return np.isfinite(self.points[..., 0])


def blocks(num_rows: int) -> list[range]:
    """Rows that one rank writes together; they depend on nothing but the number (N) of all rows."""
    size = _block_rows(num_rows)
    return [range(start, min(start + size, num_rows)) for start in range(0, num_rows, size)]


class Labels:
    """A round, from `create` or `open`."""

    def __init__(self, folder: str, number: int, content: dict[str, Any]) -> None:
        self.number = number
        self._folder, self._content = folder, content

    @classmethod
    def create(cls, folder: str, number: int, num_rows: int, count: int, latent: int) -> Self:
        """A round to be written, below a folder of rounds: N rows, K labels, Z latent. Every rank calls this."""
        block = _block_rows(num_rows)
        shapes = {"points": (count, 2), "scores": (count,), "poses": (), "codes": (latent,)}
        metadata = {
            name: _metadata((num_rows, *shape), "int16" if name == "poses" else "float32", block)
            for name, shape in shapes.items()
            if 0 not in shape
        }
        round = _place(folder, number)
        with places.speaking_of(round, "did not take labels"):
            place = places.open_root(files.join(round, _ROWS))
            arrays.write_document(place, "zarr.json", arrays.group({}))
            content = {name: _opened(place, name, each, create=True) for name, each in metadata.items()}
        return cls(round, number, content)

    def write(self, block: range, labels: Exemplars) -> None:
        """Write a whole block of rows, those of `labels` among them. Raises StoreError when the disk is full."""
        with places.speaking_of(self._folder, "did not take labels"):
            writes = [self._write(name, block, labels) for name in self._content]
            for write in writes:
                write.result()

    def _write(self, name: str, block: range, labels: Exemplars) -> Any:
        array = self._content[name]
        missing = {"points": np.nan, "poses": -1}.get(name, 0)
        values = np.full((len(block), *array.shape[1:]), missing, array.dtype.numpy_dtype)
        values[labels.rows - block.start] = getattr(labels, name)
        return array[block.start : block.stop].write(values)

    def commit(self, figures: dict[str, Any]) -> None:
        """Make the round valid, when all blocks are written; `figures` say how it came out."""
        files.write_json(files.join(self._folder, _RECORD), {"round": self.number, **figures})

    @classmethod
    def open(cls, folder: str, number: int | None = None, *, valid: bool = True) -> Self:
        """A round, by default the latest; `valid`: it counts already. Raises IncompleteError when it is not there, StoreError when it
        is damaged.
        """
        number = latest_round(folder) if number is None else number
        if number is None or (valid and not _is_valid(folder, number)):
            raise IncompleteError(f"{folder}: {_lack(folder, number)}; run the job again to make the labels")
        round = _place(folder, number)
        with places.speaking_of(round, "is damaged; remove the run's labels and checkpoints and run the job again"):
            context = places.resources(_CACHE)
            place = places.open_root(files.join(round, _ROWS), context)
            content = {name: _opened(place, name, context=context) for name in ("points", "scores", "poses")}
        return cls(round, number, content)

    @cached_property
    def labelling(self) -> dict[str, NDArray[Any]]:
        """What was fitted, as `write_labelling` kept it."""
        return _labelling(self._folder)

    @cached_property
    def poses(self) -> NDArray[np.int64]:
        """(N,) pose by row; -1 for an image without labels."""
        return self._read("poses").astype(np.int64)

    def points(self, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """(N', K, 2) unit coordinates in view 0 on some rows (N',); NaN where an image lacks a label."""
        return self._read("points", rows)

    def scores(self, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """(N', K) confidence in [0, 1] on some rows (N',); 0 where an image lacks a label."""
        return self._read("scores", rows)

    @property
    def posed(self) -> bool:
        """Whether images were clustered into poses."""
        return "clusters/pose_centroids" in self.labelling

    @property
    def count(self) -> int:
        """K"""
        return int(self._content["points"].shape[1])

    def _read(self, name: str, rows: NDArray[np.integer] | None = None) -> NDArray[Any]:
        array = self._content[name]
        with places.speaking_of(
            self._folder, "is damaged; remove the run's labels and checkpoints and run the job again"
        ):
            values: NDArray[Any] = (array if rows is None else array[rows]).read().result()
        return values


def write_labelling(folder: str, number: int, labelling: Mapping[str, NDArray[Any]]) -> None:
    """Begin a round with what was fitted for it, as named arrays; what an earlier attempt left of it goes."""
    files.remove(_place(folder, number))
    # safetensors writes the memory of an array, whatever its strides say.
    packed = safetensors.save({name: np.ascontiguousarray(array) for name, array in labelling.items()})
    files.write_bytes(files.join(_place(folder, number), _LABELLING), packed)


def read_labelling(folder: str, number: int) -> dict[str, NDArray[Any]]:
    """What `write_labelling` kept, of a round that need not be valid yet."""
    return _labelling(_place(folder, number))


def latest_round(folder: str) -> int | None:
    """The last valid round, None before the first."""
    return next((number for number in reversed(rounds(folder)) if _is_valid(folder, number)), None)


def prune(folder: str, keep: int, in_use: Collection[int] = ()) -> None:
    """Remove all rounds but the `keep` newest, the latest valid one and those `in_use`."""
    found = rounds(folder)
    kept = {*(found[-keep:] if keep else ()), latest_round(folder), *in_use}
    for number in found:
        if number not in kept:
            files.remove(files.join(_place(folder, number), _RECORD))
            files.remove(_place(folder, number))


def copy(source: str, folder: str, number: int) -> None:
    """Copy a valid round from one folder of rounds to another."""
    place = places.open_root(_place(source, number))
    for name in sorted(arrays.names(place), key=lambda name: name == _RECORD):
        content = files.read_bytes(files.join(_place(source, number), name))
        files.write_bytes(files.join(_place(folder, number), name), content)


def rounds(folder: str) -> list[int]:
    """Numbers of the rounds on disk, rising."""
    return [int(name) for name in files.names(folder) if name.isdigit()]


def _labelling(round: str) -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = safetensors.load(files.read_bytes(files.join(round, _LABELLING)))
    return found


def _is_valid(folder: str, number: int) -> bool:
    return files.exists(files.join(_place(folder, number), _RECORD))


def _lack(folder: str, number: int | None) -> str:
    valid = [each for each in rounds(folder) if _is_valid(folder, each)]
    return "no round is finished" if number is None else f"round {number} is missing, there are {valid}"


def _place(folder: str, number: int) -> str:
    return files.join(folder, f"{number:05d}")


def _block_rows(num_rows: int) -> int:
    wanted = max(LEAST_BLOCK, -(-num_rows // BLOCKS))
    return wanted if wanted <= _INNER else -(-wanted // _INNER) * _INNER


def _metadata(shape: tuple[int, ...], kind: str, block: int) -> dict[str, Any]:
    """Metadata of an array in blocks of rows, of which fewer can be read."""
    whole = arrays.chunked(shape, kind, [block, *shape[1:]])
    inner = {
        "chunk_shape": [min(_INNER, block), *shape[1:]],
        "codecs": whole["codecs"],
        "index_codecs": whole["codecs"],
    }
    return {**whole, "codecs": [{"name": "sharding_indexed", "configuration": inner}]}


def _opened(place: Any, name: str, metadata: dict[str, Any] | None = None, context: Any = None, **mode: bool) -> Any:
    return arrays.open_array(place / f"{name}/", metadata, context, open=True, **mode)
