"""The image index: every image of a run in one table, sorted by id, each checked once.

Laws: row number = row of the feature store, so a broken image keeps its row and is never used; equal inputs give equal
bytes, whatever the order in which files are listed or decoded.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from uldscale.data import images
from uldscale.data.images import BrokenImage, Pixels
from uldscale.data.inspection import Inspector, opened
from uldscale.data.listing import DataConfig, conventions, list_records, servers_of
from uldscale.data.renders import Renders
from uldscale.data.roi import describe
from uldscale.data.rows import ImageRow, read_table, row_of, write_table
from uldscale.errors import DataError

__all__ = ["DataConfig", "ImageIndex", "ImageRow"]

_ABOUT = b"uldscale"


class ImageIndex:
    """A table of images, sorted by id; `renders` may have the generated ones."""

    def __init__(self, table: pa.Table, renders: Renders | None = None) -> None:
        self.table, self._renders = table, renders
        self._about = json.loads(table.schema.metadata[_ABOUT])
        # An index without this list opens no server of an inside address.
        self._servers = list(self._about.get("servers", []))

    @classmethod
    def build(cls, config: DataConfig) -> Self:
        """The index of these settings, by this process alone and in memory. Raises DataError when a source is missing, empty or
        malformed, and what `join` raises.
        """
        # A render's small products start BLAS threads that wait for each other: 7 times slower on two busy cores.
        with threadpool_limits(1, "blas"):
            return cls.join([Inspector(config).inspect(list_records(config))], config)

    @classmethod
    def join(cls, tables: Sequence[pa.Table], config: DataConfig) -> Self:
        """The index of all rows of some tables, which follow each other in the order of ids.

        Raises DataError when a split has no usable image, two rows would have one id, or images have other numbers of landmarks than
        others.
        """
        about = {
            "config": config.fingerprint(),
            "servers": servers_of(config),
            "conventions": conventions(config),
            "roi": describe(config.roi),
        }
        table = pa.concat_tables(tables).sort_by("id").combine_chunks()
        index = cls(table.replace_schema_metadata({_ABOUT: json.dumps(about)}))
        index._require_unique()
        index._require_usable()
        return index

    @classmethod
    def read(cls, path: str) -> Self:
        """An index that `write` made. Raises DataError when it is missing or not one."""
        table = read_table(path)
        if _ABOUT not in (table.schema.metadata or {}):
            raise DataError(f"{path} says nothing of its settings; remove it and index again")
        return cls(table, Renders.of(path))

    def write(self, path: str) -> None:
        """One parquet file, replaced whole."""
        write_table(path, self.table)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def conventions(self) -> str:
        """How the annotations were read, in a sentence; "" of an index that was made before it said so."""
        return str(self._about.get("conventions", ""))

    def regions(self) -> dict[str, Any]:
        """How regions of interest were found (see `roi.describe`), in how many of the images that could be read, and how many objects."""
        status, uris = self._column("status"), self._column("uri")
        found = set(uris[status == "ok"])
        images = len(found | set(uris[status == "no_region"]))
        counts = {
            "images": images,
            "found": len(found),
            "share_found": round(len(found) / images, 4) if images else 0.0,
        }
        return {**self._about.get("roi", {}), **counts, "objects_found": int((status == "ok").sum())}

    @property
    def config_fingerprint(self) -> str:
        """Fingerprint of the settings that it was built from."""
        return str(self._about["config"])

    def row(self, i: int) -> ImageRow:
        """Row i, 0 <= i < len."""
        return row_of(self.table, i)

    def rows(self, split: str | None = None) -> NDArray[np.int64]:
        """Numbers of the usable rows of a split, or of both; ascending."""
        good = self._column("status") == "ok"
        return np.flatnonzero(good if split is None else good & (self._column("split") == split)).astype(np.int64)

    def rows_of(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Numbers of the rows of some ids, in their order. Raises DataError for one that is not there."""
        found = pc.index_in(pa.array(ids, self.table["id"].type), value_set=self.table["id"].combine_chunks())
        if found.null_count:
            raise DataError(f"the index has no image {ids[found.is_null().index(True).as_py()]!r}")
        rows: NDArray[np.int64] = found.to_numpy().astype(np.int64)
        return rows

    def annotated(self) -> NDArray[np.int64]:
        """Usable rows with a landmark that somebody has placed."""
        rows = self.rows()
        return rows[np.isfinite(self.landmarks(rows)).all(-1).any(-1)]

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

    def visible(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(n, L) which points can be seen; all of them where nobody says so."""
        own = self.table["visible"].combine_chunks().take(pa.array(rows))
        seen, known = np.ones((len(rows), self.num_points), bool), own.is_valid().to_numpy(False)
        seen[known] = own.flatten().to_numpy(False).reshape(known.sum(), self.num_points)
        return seen

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
        """The crop of row i, (size, size, 3) RGB. Raises DataError when the image is not what it was when indexed.

        That is known from its checksum: the time of a file need not change with it.
        """
        row = self.row(i)
        kept = self._renders.find(row) if self._renders else None
        if kept is not None:
            return images.crop(kept, row.roi, size)
        try:
            with opened(row.uri, self._servers) as image:
                # Processors differ in the last bit of a sine, so a generated image may differ in a pixel from its checksum.
                if image.content is not None and image.crc32c != row.crc32c:
                    raise DataError(
                        f"{row.uri} has changed since it was indexed; restore it, or index again into a new run"
                    )
                return images.crop(image.pixels, row.roi, size)
        except BrokenImage as problem:
            raise DataError(f"{row.uri} could be read when it was indexed, but now {problem.reason}") from None

    def fingerprint(self) -> str:
        """Sixteen hex digits over ids, contents, regions and status of all rows, in order."""
        digest = hashlib.sha256()
        for row in self.table.select(["id", "sha256", "roi", "status"]).to_pylist():
            digest.update(json.dumps(list(row.values())).encode())
        return digest.hexdigest()[:16]

    def _column(self, name: str) -> NDArray[Any]:
        return np.array(self.table[name].to_pylist(), object)

    def _require_unique(self) -> None:
        counts = pc.value_counts(self.table["id"]).to_pylist()
        if twice := [count["values"] for count in counts if count["counts"] > 1]:
            raise DataError(f"two objects have the id {twice[0]!r}; rename the image whose name ends in # and a number")

    def _require_usable(self) -> None:
        for split in np.unique(self._column("split")):
            own = np.flatnonzero(self._column("split") == split)
            if not len(self.rows(split)):
                first = self.row(int(own[0]))
                raise DataError(
                    f"data.{split}: none of {len(own)} images can be used; the first is {first.uri}: {first.reason}"
                )
        lengths = pc.list_value_length(self.table["landmarks"]).to_pylist()
        counts = {length // 2: i for i, length in enumerate(lengths) if length is not None}
        if len(counts) > 1:
            text = " and ".join(f"{count} points ({self.row(i).id})" for count, i in sorted(counts.items()))
            raise DataError(f"images must share one set of landmarks, but have {text}")
