"""Predicted landmarks of any method, as a file that can be scored.

One parquet file: a row per image with its id, pose and 2 K numbers, x then y of each landmark in unit coordinates of the crop, null where
a landmark is missing; and the visibility of each landmark, of a method that has it.
"""

import io
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from uldscale import files


@dataclass(frozen=True)
class Predictions:
    """Landmarks of some images, in the order of `ids`."""

    ids: list[str]
    points: NDArray[np.float32]
    """(N, K, 2) unit coordinates, NaN where missing."""
    poses: NDArray[np.int64]
    """(N,) pose cluster of each image, 0 for a method without poses."""
    visibility: NDArray[np.float32] | None = None
    """(N, K) probability that a landmark is seen; None for a method that knows none."""

    def write(self, path: str) -> None:
        """Replace the file whole."""
        flat = self.points.reshape(len(self.ids), -1).astype(np.float32)
        values = pa.array(flat.ravel(), from_pandas=True)
        landmarks = pa.FixedSizeListArray.from_arrays(values, flat.shape[1])
        columns = {"id": self.ids, "landmarks": landmarks, "pose": self.poses}
        if self.visibility is not None:
            seen = pa.array(self.visibility.astype(np.float32).ravel())
            columns["visibility"] = pa.FixedSizeListArray.from_arrays(seen, self.visibility.shape[1])
        table = pa.table(columns)
        sink = io.BytesIO()
        pq.write_table(table, sink)
        files.write_bytes(path, sink.getvalue())

    @classmethod
    def read(cls, path: str) -> "Predictions":
        """The predictions in a file."""
        table = pq.read_table(io.BytesIO(files.read_bytes(path)))
        points = _numbers(table, "landmarks").reshape(len(table), -1, 2)
        seen = _numbers(table, "visibility") if "visibility" in table.column_names else None
        return cls(table["id"].to_pylist(), points, table["pose"].to_numpy(), seen)


def _numbers(table: pa.Table, name: str) -> NDArray[np.float32]:
    """(N, count) of a column of lists; null is NaN."""
    column = table[name].combine_chunks()
    flat = column.values.to_numpy(zero_copy_only=False).astype(np.float32)
    return np.asarray(flat.reshape(len(table), column.type.list_size))
