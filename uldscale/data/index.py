"""The image index: every image of a run in one table, sorted by id, each checked once.

Laws: row number = row of the feature store, so a broken image keeps its row and is never used; equal inputs give equal
bytes, whatever the order in which files are listed or decoded.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from uldscale import files
from uldscale.data import images, roi
from uldscale.data.images import BrokenImage, Pixels
from uldscale.data.listing import DataConfig, Split, list_records
from uldscale.data.sources import Box, Record
from uldscale.errors import DataError

__all__ = ["DataConfig", "ImageIndex", "ImageRow"]


def _many(kind: pa.DataType, count: int = -1) -> pa.DataType:
    # "element" is the name that parquet gives to list items; so a table that was read equals the one written.
    return pa.list_(pa.field("element", kind), count)


_SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "uri": pa.string(),
        "split": pa.string(),
        "width": pa.int32(),
        "height": pa.int32(),
        "roi": _many(pa.float64(), 4),
        "sha256": pa.string(),
        "landmarks": _many(pa.float32()),
        "visible": _many(pa.bool_()),
        "yaw": pa.float32(),
        "status": pa.string(),
        "reason": pa.string(),
    }
)


@dataclass(frozen=True, eq=False)
class ImageRow:
    """One image. roi (x0, y0, x1, y1), landmarks (L, 2) float32 and visible (L,) are in pixels of the upright image.

    yaw is in degrees, > 0 with the nose toward image right. A quarantined row has a reason; its roi is (0, 0, 0, 0).
    When the image could not be decoded, its width and height are 0 and its sha256 is "".
    """

    id: str
    uri: str
    split: Split
    width: int
    height: int
    roi: Box
    sha256: str
    landmarks: NDArray[np.float32] | None
    visible: NDArray[np.bool_] | None
    yaw: float | None
    status: Literal["ok", "quarantined"]
    reason: str


class ImageIndex:
    """A table of images, sorted by id."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    @classmethod
    def build(
        cls,
        config: DataConfig,
        advance: Callable[[int], None] | None = None,
        listed: Sequence[tuple[Split, Record]] | None = None,
    ) -> Self:
        """Decodes every image once. `advance` is called with 1 after each; `listed` is list_records(config), where the
        caller has it. Raises DataError when a source is missing, empty or malformed, or a split has no usable image.
        """
        find = roi.make_provider(config.roi)
        rows = []
        # A render's small products start BLAS threads that wait for each other: 7 times slower on two busy cores.
        with threadpool_limits(1, "blas"), ThreadPoolExecutor() as pool:
            for row in pool.map(lambda item: _inspect(item[0], item[1], find), listed or list_records(config)):
                rows.append(row)
                if advance is not None:
                    advance(1)
        _require_usable(rows)
        return cls(_tabulate(rows, config))

    @classmethod
    def read(cls, path: str) -> Self:
        """An index that `write` made. Raises DataError when it is missing or not one."""
        try:
            table = pq.read_table(pa.BufferReader(files.read_bytes(path)))
        except FileNotFoundError:
            raise DataError(f"image index {path!r} is not there; make it with `uldscale index`") from None
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"{path} is not an image index ({error}); remove it and index again") from None
        if not table.schema.equals(_SCHEMA) or b"uldscale" not in (table.schema.metadata or {}):
            raise DataError(f"{path} has other columns than an image index; remove it and index again")
        return cls(table)

    def write(self, path: str) -> None:
        """One parquet file, replaced whole."""
        sink = pa.BufferOutputStream()
        pq.write_table(self.table, sink, compression="zstd")
        files.write_bytes(path, sink.getvalue().to_pybytes())

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def config_fingerprint(self) -> str:
        """Fingerprint of the settings that it was built from."""
        return str(json.loads(self.table.schema.metadata[b"uldscale"])["config"])

    def row(self, i: int) -> ImageRow:
        """Row i, 0 <= i < len."""
        fields = self.table.slice(i, 1).to_pylist()[0]
        landmarks, visible = fields.pop("landmarks"), fields.pop("visible")
        return ImageRow(
            **{**fields, "roi": tuple(fields["roi"])},
            landmarks=None if landmarks is None else np.array(landmarks, np.float32).reshape(-1, 2),
            visible=None if visible is None else np.array(visible, bool),
        )

    def rows(self, split: str | None = None) -> NDArray[np.int64]:
        """Numbers of the usable rows of a split, or of both; ascending."""
        good = self._column("status") == "ok"
        return np.flatnonzero(good if split is None else good & (self._column("split") == split)).astype(np.int64)

    def judged(self) -> NDArray[np.int64]:
        """Usable rows that methods are judged on: those of the test split, or all when it is empty."""
        test = self.rows("test")
        return test if len(test) else self.rows()

    def quarantined(self) -> list[ImageRow]:
        """The rows that are never used, each with its reason."""
        return [self.row(int(i)) for i in np.flatnonzero(self._column("status") != "ok")]

    @property
    def num_points(self) -> int:
        """L, the points of an annotated image; 0 when none is annotated."""
        return (pc.max(pc.list_value_length(self.table["landmarks"])).as_py() or 0) // 2

    def landmarks(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(n, L, 2) unit coordinates of the crop, NaN where a point or all of an image is missing."""
        count = self.num_points
        own = self.table["landmarks"].combine_chunks().take(pa.array(rows))
        pixels = np.full((len(rows), count, 2), np.nan)
        known = own.is_valid().to_numpy(False)
        pixels[known] = own.flatten().to_numpy(False).reshape(known.sum(), count, 2)
        corners, sides = self._regions(rows)
        return np.asarray((pixels - corners[:, None]) / sides[:, None], np.float32)

    def proportions(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(n, 2) width and height of the region that a crop shows, as shares of the longer one; NaN where there is none."""
        _, sides = self._regions(rows)
        return np.asarray(sides / sides.max(-1, keepdims=True), np.float32)

    def _regions(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """First corners and sides (n, 2) of the regions in pixels of the images; sides of none are NaN."""
        boxes = self.table["roi"].combine_chunks().take(pa.array(rows)).flatten().to_numpy(False).reshape(-1, 4)
        sides = boxes[:, 2:] - boxes[:, :2]
        return boxes[:, :2], np.where(sides > 0, sides, np.nan)

    def yaw(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(n,) degrees, NaN where there is none."""
        return np.asarray(self.table["yaw"].combine_chunks().take(pa.array(rows)).to_numpy(False), np.float32)

    def load(self, i: int, size: int) -> Pixels:
        """The crop of row i, (size, size, 3) RGB. Raises DataError when the image is not what it was when indexed."""
        row = self.row(i)
        try:
            pixels, digest, _ = _open(row.uri)
        except BrokenImage as problem:
            raise DataError(f"{row.uri} could be read when it was indexed, but now {problem.reason}") from None
        # Processors differ in the last bit of a sine, so a generated image may differ in a pixel from its digest.
        if digest != row.sha256 and not row.uri.startswith("faces3d:"):
            raise DataError(f"{row.uri} has changed since it was indexed; restore it, or index again into a new run")
        return images.crop(pixels, row.roi, size)

    def fingerprint(self) -> str:
        """Sixteen hex digits over ids, contents, regions and status of all rows, in order."""
        digest = hashlib.sha256()
        for row in self.table.select(["id", "sha256", "roi", "status"]).to_pylist():
            digest.update(json.dumps(list(row.values())).encode())
        return digest.hexdigest()[:16]

    def _column(self, name: str) -> NDArray[Any]:
        return np.array(self.table[name].to_pylist(), object)


def _inspect(split: Split, record: Record, find: roi.Provider) -> ImageRow:
    blank = ImageRow(record.id, record.uri, split, 0, 0, (0.0,) * 4, "", None, None, record.yaw, "quarantined", "")
    row = replace(blank, landmarks=record.landmarks, visible=record.visible)
    try:
        if record.broken:
            raise BrokenImage(record.broken)
        pixels, digest, truth = _open(record.uri)
        row = replace(row, width=pixels.shape[1], height=pixels.shape[0], sha256=digest, **truth)
        if record.extent and record.extent != (row.width, row.height):
            said = "{} x {}".format(*record.extent)
            raise BrokenImage(f"annotated as {said} px, but the image is {row.width} x {row.height} px")
        return replace(row, roi=find(record, pixels), status="ok")
    except BrokenImage as problem:
        return replace(row, reason=problem.reason)


def _open(uri: str) -> tuple[Pixels, str, dict[str, Any]]:
    """Pixels, digest of what they were made from, and the truth that a generated image knows about itself."""
    if uri.startswith("faces3d:"):
        face = images.render(uri)
        truth = {"landmarks": face.landmarks, "visible": face.visible, "yaw": face.yaw}
        return face.image, images.sha256(face.image), truth
    content = images.fetch(uri)
    return images.decode_bytes(content), images.sha256(content), {}


def _require_usable(rows: Sequence[ImageRow]) -> None:
    for split in sorted({row.split for row in rows}):
        own = [row for row in rows if row.split == split]
        if all(row.status != "ok" for row in own):
            first = f"{own[0].uri}: {own[0].reason}"
            raise DataError(f"data.{split}: none of {len(own)} images can be used; the first is {first}")
    counts = {row.landmarks.shape[0]: row for row in rows if row.landmarks is not None}
    if len(counts) > 1:
        text = " and ".join(f"{count} points ({row.id})" for count, row in sorted(counts.items()))
        raise DataError(f"images must share one set of landmarks, but have {text}")


def _tabulate(rows: Sequence[ImageRow], config: DataConfig) -> pa.Table:
    columns = {name: [getattr(row, name) for row in rows] for name in _SCHEMA.names}
    columns["landmarks"] = [None if p is None else p.ravel() for p in columns["landmarks"]]
    about = {"uldscale": json.dumps({"config": config.fingerprint()})}
    return pa.table(columns, schema=_SCHEMA.with_metadata(about))
