"""A row of the image index, and tables of rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from uldscale import files
from uldscale.data.listing import Split
from uldscale.data.sources import Box
from uldscale.errors import DataError


def _many(kind: pa.DataType, count: int = -1) -> pa.DataType:
    # "element" is the name that parquet gives to list items; so a table that was read equals the one written.
    return pa.list_(pa.field("element", kind), count)


SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "uri": pa.string(),
        "split": pa.string(),
        "width": pa.int32(),
        "height": pa.int32(),
        "roi": _many(pa.float64(), 4),
        "sha256": pa.string(),
        "crc32c": pa.uint32(),
        "landmarks": _many(pa.float32()),
        "visible": _many(pa.bool_()),
        "yaw": pa.float32(),
        "status": pa.string(),
        "reason": pa.string(),
    }
)
"""Of a table of rows; the fields of ImageRow."""


@dataclass(frozen=True, eq=False)
class ImageRow:
    """One image, or one of the objects in it.

    roi (x0, y0, x1, y1), landmarks (L, 2) float32 and visible (L,) are in pixels of the upright image.

    yaw is in degrees, > 0 with the nose toward image right. A row that is not ok has a reason, and its roi is (0, 0, 0, 0): it is
    quarantined, or has no region, when the image is good but shows no object.
    sha256 and crc32c are of the file, or of the pixels of a generated image; "" and 0, as width and height, when it could not be decoded.
    """

    id: str
    uri: str
    split: Split
    width: int
    height: int
    roi: Box
    sha256: str
    crc32c: int
    landmarks: NDArray[np.float32] | None
    visible: NDArray[np.bool_] | None
    yaw: float | None
    status: Literal["ok", "quarantined", "no_region"]
    reason: str


def tabulate(rows: Sequence[ImageRow]) -> pa.Table:
    """The table of some rows, in their order."""
    columns = {name: [getattr(row, name) for row in rows] for name in SCHEMA.names}
    columns["landmarks"] = [None if p is None else p.ravel() for p in columns["landmarks"]]
    return pa.table(columns, schema=SCHEMA)


def row_of(table: pa.Table, i: int) -> ImageRow:
    """Row i of a table."""
    fields = table.slice(i, 1).to_pylist()[0]
    landmarks, visible = fields.pop("landmarks"), fields.pop("visible")
    return ImageRow(
        **{**fields, "roi": tuple(fields["roi"])},
        landmarks=None if landmarks is None else np.array(landmarks, np.float32).reshape(-1, 2),
        visible=None if visible is None else np.array(visible, bool),
    )


def write_table(path: str, table: pa.Table) -> None:
    """One parquet file, replaced whole; equal tables give equal bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    files.write_bytes(path, sink.getvalue().to_pybytes())


def read_table(path: str) -> pa.Table:
    """A table that `write_table` wrote. Raises DataError when the file is missing or something else."""
    try:
        table = pq.read_table(pa.BufferReader(files.read_bytes(path)))
    except FileNotFoundError:
        raise DataError(f"image index {path!r} is not there; make it with `uldscale index`") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} is not an image index ({error}); remove it and index again") from None
    if not table.schema.equals(SCHEMA):
        raise DataError(f"{path} has other columns than an image index; remove it and index again")
    return table
