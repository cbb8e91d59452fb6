"""Does a method know which of its landmarks are hidden? Judged by annotations that say which points are.

N images, K landmarks, P annotated points.
"""

import numpy as np
from numpy.typing import NDArray

MOST_IMAGES = 2000
"""So many, evenly spread over all, tell which point a landmark stays at."""


def partners(points: NDArray[np.floating], truth: NDArray[np.floating], seen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(K,) the annotated point that each landmark stays nearest to: by the median distance where the point is seen.

    `points` (N, K, 2) and `truth` (N, P, 2) are in one unit, NaN where missing, and `seen` (N, P) says which points can be seen.
    """
    some = slice(None, None, max(1, len(points) // MOST_IMAGES))
    gaps = np.linalg.norm(points[some, :, None] - truth[some, None], axis=-1)
    gaps = np.where(seen[some, None], gaps, np.nan)
    never = np.isnan(gaps).all(0)
    medians = np.nanmedian(np.where(never, np.inf, gaps), axis=0)
    return np.asarray(medians.argmin(1), np.int64)


def area_under_curve(visibility: NDArray[np.floating], seen: NDArray[np.bool_]) -> float | None:
    """Of the ROC curve, 0.5 by chance: visibilities (N, K) of found landmarks, NaN where missing, against whether their points are seen.

    None when all of them are seen, or none.
    """
    from sklearn.metrics import roc_auc_score

    known = np.isfinite(visibility)
    if len(np.unique(seen[known])) < 2:
        return None
    return float(roc_auc_score(seen[known], visibility[known]))
