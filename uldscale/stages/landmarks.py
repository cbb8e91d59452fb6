"""What the methods of a run have found, by the rows of its index.

N rows, K landmarks.
"""

import numpy as np
from numpy.typing import NDArray

from uldscale import files
from uldscale.data.index import ImageIndex
from uldscale.predictions import Predictions
from uldscale.runs import RunFolder
from uldscale.stages.locate import PREDICTIONS


def landmarks_of(index: ImageIndex, run: RunFolder, method: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Landmarks (N, K, 2) of a method in unit coordinates by row, NaN where missing or not looked for, and poses (N,), 0 there."""
    predictions = Predictions.read(files.join(run.method(method), PREDICTIONS))
    points = np.full((len(index), *predictions.points.shape[1:]), np.nan, np.float32)
    poses = np.zeros(len(index), np.int64)
    rows = index.rows_of(predictions.ids)
    points[rows], poses[rows] = predictions.points, predictions.poses
    return points, poses


def visibility_of(index: ImageIndex, run: RunFolder, method: str) -> NDArray[np.float32] | None:
    """Probabilities (N, K) that landmarks of a method are seen, NaN where not looked for; None for a method that knows none."""
    predictions = Predictions.read(files.join(run.method(method), PREDICTIONS))
    if predictions.visibility is None:
        return None
    seen = np.full((len(index), predictions.visibility.shape[1]), np.nan, np.float32)
    seen[index.rows_of(predictions.ids)] = predictions.visibility
    return seen
