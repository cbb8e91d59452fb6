"""The view matrices of all shards in one object: a reader of 15,000 records would wait for minutes in a bucket.

Law: it is a pure function of the commit records. Who asks first makes it when all are there; it goes before a record
comes, so that no kill leaves one that is older than its records.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from uldscale.errors import StoreError
from uldscale.store import arrays, places
from uldscale.store.records import REPAIR, Records, views_of

_CHUNK = "c.0.0.0.0"


class GatheredViews:
    """The array `views` of a complete store, N images with V views."""

    def __init__(self, root: str, place: Any, records: Records, shards: int) -> None:
        self._root, self._place = root, place / "views/"
        self._records, self._shards = records, shards

    def read(self) -> NDArray[np.float32]:
        """(N, V, 3, 3) matrices. Raises StoreError."""
        with places.speaking_of(self._root, f"has damaged views ({REPAIR})"):
            if _CHUNK not in arrays.names(self._place):
                self._write(self._recorded())
            matrices: NDArray[np.float32] = arrays.open_array(self._place, open=True).read().result()
        return matrices

    def verify(self) -> None:
        """Raises StoreError when they are damaged or not those of the records."""
        if not np.array_equal(self.read(), self._recorded()):
            raise StoreError(f"{self._root} has views that are not those of its shards ({REPAIR})")

    def drop(self) -> None:
        """Forget them; the next one who asks makes them anew. Raises StoreError."""
        with places.speaking_of(self._root, "keeps its views"):
            for key in (_CHUNK, "zarr.json"):
                arrays.remove_document(self._place, key)

    def _recorded(self) -> NDArray[np.float32]:
        records = self._records.commits(range(self._shards))
        with places.speaking_of(self._root, f"has damaged records ({REPAIR})"):
            return np.concatenate([views_of(record) for record in records])

    def _write(self, matrices: NDArray[np.float32]) -> None:
        # Others may do the same at the same time: all write the same bytes, and each of them all at once.
        layout = arrays.chunked(matrices.shape, "float32", matrices.shape)
        arrays.open_array(self._place, layout, open=True, create=True).write(matrices).result()
