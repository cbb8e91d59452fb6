"""Rounds of pseudo-labels, as files: labels/00003/{labels.parquet, clusters.safetensors} and labels/LATEST.

Law: a round counts when LATEST names it, and LATEST is flipped when all files of the round are whole and synced. A
crash in between leaves the round before.

n labels, N rows of the store, K landmarks, Q poses, D descriptor size, Z latent.
"""

import io
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors import numpy as safetensors

from uldscale import files
from uldscale.errors import IncompleteError

_COLUMNS = {
    "row": "int64",
    "view": "int16",
    "x": "float32",
    "y": "float32",
    "score": "float32",
    "k": "int16",
    "q": "int16",
    "distance": "float32",
}
_MOVED = 0.05
"""Distance in unit coordinates beyond which a landmark counts as found somewhere else."""


@dataclass(frozen=True, eq=False)
class LabelTable:
    """One round: at most one point per image, view and landmark."""

    round: int
    row: NDArray[np.int64]
    """(n,) row of the store."""
    view: NDArray[np.int16]
    """(n,)"""
    x: NDArray[np.float32]
    """(n,) unit coordinates of that view, as is `y`."""
    y: NDArray[np.float32]
    score: NDArray[np.float32]
    """(n,) confidence of the keypoint in [0, 1]."""
    k: NDArray[np.int16]
    """(n,) landmark."""
    q: NDArray[np.int16]
    """(n,) pose of the image."""
    distance: NDArray[np.float32]
    """(n,) distance of the descriptor to its centroid."""
    poses: NDArray[np.int16]
    """(N,) pose by row; -1 where there is none."""
    codes: NDArray[np.float32]
    """(N, Z) pose code by row; Z may be 0."""
    clusters: dict[str, NDArray[Any]]
    """Centroids (Q, K, D) under "centroids", and what else the clustering needs."""

    @property
    def r(self) -> NDArray[np.int32]:
        """(n,) fine label q * K + k."""
        num_landmarks = self.clusters["centroids"].shape[-2]
        labels: NDArray[np.int32] = self.q.astype(np.int32) * num_landmarks + self.k
        return labels

    def churn(self, previous: Self) -> float:
        """Share in [0, 1] of the labels of either round that the other lacks or has elsewhere (more than 0.05 away)."""
        ours, theirs = self._keys(), previous._keys()
        both, mine, other = np.intersect1d(ours, theirs, return_indices=True)
        moved = np.hypot(self.x[mine] - previous.x[other], self.y[mine] - previous.y[other]) > _MOVED
        union = len(ours) + len(theirs) - len(both)
        return (union - len(both) + int(moved.sum())) / max(union, 1)

    def write(self, folder: str) -> None:
        """Write the round into a folder of rounds, then make it the latest."""
        place = _place(folder, self.round)
        columns = {name: pa.array(np.asarray(getattr(self, name), kind)) for name, kind in _COLUMNS.items()}
        sink = io.BytesIO()
        pq.write_table(pa.table(columns), sink, compression="zstd")
        files.write_bytes(files.join(place, "labels.parquet"), sink.getvalue())
        tensors = {"poses": np.asarray(self.poses, np.int16), "codes": np.asarray(self.codes, np.float32)}
        tensors |= {f"clusters/{name}": array for name, array in self.clusters.items()}
        # safetensors writes the memory of an array, whatever its strides say.
        packed = safetensors.save({name: np.ascontiguousarray(array) for name, array in tensors.items()})
        files.write_bytes(files.join(place, "clusters.safetensors"), packed)
        files.write_bytes(files.join(folder, "LATEST"), f"{self.round}\n".encode())

    @classmethod
    def read(cls, folder: str, round: int | None = None) -> Self:
        """A round, by default the latest. Raises IncompleteError when it is not there."""
        number = latest_round(folder) if round is None else round
        if number is None or not files.exists(files.join(_place(folder, number), "clusters.safetensors")):
            wanted = (
                "no round is finished" if number is None else f"round {number} is missing, there are {rounds(folder)}"
            )
            raise IncompleteError(f"{folder}: {wanted}; run the job again to make the labels")
        place = _place(folder, number)
        table = pq.read_table(pa.BufferReader(files.read_bytes(files.join(place, "labels.parquet"))))
        tensors = safetensors.load(files.read_bytes(files.join(place, "clusters.safetensors")))
        columns = {name: table[name].to_numpy() for name in _COLUMNS}
        poses, codes = tensors.pop("poses"), tensors.pop("codes")
        clusters = {name.removeprefix("clusters/"): array for name, array in tensors.items()}
        return cls(round=number, **columns, poses=poses, codes=codes, clusters=clusters)

    def _keys(self) -> NDArray[np.int64]:
        """(n,) one number for each (row, view, landmark)."""
        keys: NDArray[np.int64] = (self.row * 2**16 + self.view) * 2**16 + self.k
        return keys


def latest_round(folder: str) -> int | None:
    """The last finished round, None before the first."""
    latest = files.join(folder, "LATEST")
    return int(files.read_bytes(latest)) if files.exists(latest) else None


def prune(folder: str, keep: int, in_use: Collection[int] = ()) -> None:
    """Remove all rounds but the `keep` newest, the latest finished one and those `in_use`."""
    kept = {*(rounds(folder)[-keep:] if keep else ()), latest_round(folder), *in_use}
    for number in rounds(folder):
        if number not in kept:
            files.remove(_place(folder, number))


def rounds(folder: str) -> list[int]:
    """Numbers of the rounds on disk, rising."""
    return [int(name) for name in files.names(folder) if name.isdigit()]


def _place(folder: str, number: int) -> str:
    return files.join(folder, f"{number:05d}")
