"""Labels on disk for tests that look at them."""

import tempfile
from functools import cache

import numpy as np
from numpy.typing import NDArray

from uldscale import labels
from uldscale.labels import Exemplars, Labels, blocks


def written(points: NDArray[np.float32], poses: NDArray[np.integer]) -> Labels:
    """A round with points (N, K, 2), NaN where missing, and poses (N,)."""
    folder, (num_rows, count, _) = tempfile.mkdtemp(dir=_folder().name), points.shape
    labels.write_labelling(folder, 0, {"clusters/centroids": np.zeros((2, count, 4), np.float32)})
    made = Labels.create(folder, 0, num_rows, count, 0)
    for block in blocks(num_rows):
        found = Exemplars.none(np.arange(num_rows)[block.start : block.stop], count, 0)
        found.points[:], found.poses[:] = points[found.rows], poses[found.rows]
        made.write(block, found)
    made.commit({})
    return Labels.open(folder)


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()
