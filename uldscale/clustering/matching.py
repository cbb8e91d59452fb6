"""Matching of clusterings, so that a cluster number keeps its meaning.

Convention: a permutation `order` says that new cluster `order[j]` takes the number j of the old one. So `new[order]`
lists the new centroids in the old numbering.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment


def match_rows(cost: NDArray[np.number]) -> NDArray[np.int64]:
    """Column of each row in the cheapest one-to-one matching of a cost matrix (n, m), n <= m (Hungarian algorithm)."""
    rows, columns = cost.shape
    if rows > columns:
        raise ValueError(f"each row wants a column of its own, got {rows} rows and {columns} columns")
    return np.asarray(linear_sum_assignment(cost)[1], dtype=np.int64)


def align(new: NDArray[np.floating], old: NDArray[np.floating]) -> NDArray[np.int64]:
    """Permutation (k,) that puts centroids `new` (k, d) in the order of `old` (k, d): least sum of distances."""
    return match_rows(np.linalg.norm(old[:, None].astype(np.float64) - new[None], axis=-1))
