"""What the methods of a run have found, by the rows of its index.

N rows, K landmarks.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from uldscale import files
from uldscale.data.index import ImageIndex
from uldscale.predictions import Predictions
from uldscale.runs import RunFolder
from uldscale.stages.locate import PREDICTIONS


class ByRow(NamedTuple):
    """Of a method, by row."""

    points: NDArray[np.float32]
    """(N, K, 2) unit coordinates, NaN where missing or not looked for."""
    poses: NDArray[np.int64]
    """(N,), 0 where not looked for."""
    visibility: NDArray[np.float32] | None
    """(N, K) probability that a landmark is seen, NaN where not looked for; None for a method that knows none."""


def landmarks_of(index: ImageIndex, run: RunFolder, method: str) -> ByRow:
    """What a method has found."""
    predictions = Predictions.read(files.join(run.method(method), PREDICTIONS))
    rows, seen = index.rows_of(predictions.ids), predictions.visibility
    points = np.full((len(index), *predictions.points.shape[1:]), np.nan, np.float32)
    poses = np.zeros(len(index), np.int64)
    points[rows], poses[rows] = predictions.points, predictions.poses
    if seen is None:
        return ByRow(points, poses, None)
    visibility = np.full((len(index), seen.shape[1]), np.nan, np.float32)
    visibility[rows] = seen
    return ByRow(points, poses, visibility)
