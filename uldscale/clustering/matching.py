"""Matching of clusterings, so that a cluster number keeps its meaning.

Convention: a permutation `order` says that new cluster `order[j]` takes the number j of the old one. So `new[order]`
lists the new centroids in the old numbering and `renumber(labels, order)` moves labels along.
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


def align_memberships(new: NDArray[np.integer], old: NDArray[np.integer], count: int) -> NDArray[np.int64]:
    """Permutation (count,) that gives labels `new` (n,) the numbers of labels `old` (n,): most items keep their number.

    Serves where centroids cannot be compared, as with pose codes of a network that has been trained on. Items with a
    label below 0 have none and are left out.
    """
    known = (new >= 0) & (old >= 0)
    overlap = np.zeros((count, count), dtype=np.int64)
    np.add.at(overlap, (old[known], new[known]), 1)
    return match_rows(-overlap)


def renumber(labels: NDArray[np.integer], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Labels (n,) after the clusters were put into `order`; labels below 0 stay."""
    number = np.argsort(order)
    return np.where(labels >= 0, number[labels], labels)
