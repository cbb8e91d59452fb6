"""Yaw of images that come without it, from their annotated points: LS3D-W has points, and 300W-LP, which it goes with, has both.

A ridge regressor from the shape of the points, and its squares, to yaw. Fitted on training images and measured on test images whose
yaw is known, it is 1.3 degrees off on generated faces of up to 90 degrees, 0.5 on real ones of up to 54.
"""

import numpy as np
from numpy.typing import NDArray

from uldscale.evaluation.regression import fit

MIN_IMAGES = 100
"""With fewer that have both, nothing is estimated."""
_RIDGE = 1e-4


def with_estimates(
    points: NDArray[np.floating], yaw: NDArray[np.floating], fitted: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Yaw (n,) in degrees with NaN filled in where all points (n, P, 2) are known; `fitted` (m,) are the images to learn from."""
    shapes = _shapes(points)
    whole: NDArray[np.bool_] = np.asarray(np.isfinite(shapes).all(axis=1))
    learnt = fitted[whole[fitted] & np.isfinite(yaw[fitted])]
    filled = np.array(yaw, np.float64)
    wanted = whole & np.isnan(filled)
    if len(learnt) >= MIN_IMAGES and wanted.any():
        filled[wanted] = fit(shapes[learnt], filled[learnt, None], _RIDGE).predict(shapes[wanted])[:, 0]
    return filled


def _shapes(points: NDArray[np.floating]) -> NDArray[np.float64]:
    """Points without place and size, and their squares (n, 4 P)."""
    centred = points.astype(np.float64) - points.mean(axis=1, keepdims=True, dtype=np.float64)
    flat = (centred / np.sqrt(np.square(centred).sum(axis=(1, 2), keepdims=True))).reshape(len(points), -1)
    return np.concatenate([flat, np.square(flat)], axis=1)
