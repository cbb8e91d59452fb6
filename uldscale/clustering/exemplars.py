"""Exemplar assignment (paper 3.1): of all keypoints of an image in a cluster the nearest to the centroid stays."""

import numpy as np
from numpy.typing import NDArray


def keep(
    images: NDArray[np.integer],
    labels: NDArray[np.integer],
    distances: NDArray[np.floating],
    gate: NDArray[np.floating] | None = None,
) -> NDArray[np.bool_]:
    """Mask (n,) of the keypoints that stay: the nearest per (image, label); of equals the first.

    `gate` holds the distance by label beyond which keypoints are dropped, too, see `gates`.
    """
    order = np.lexsort((distances, labels, images))
    first = np.ones(len(order), dtype=bool)
    first[1:] = (np.diff(images[order]) != 0) | (np.diff(labels[order]) != 0)
    mask = np.zeros(len(order), dtype=bool)
    mask[order[first]] = True
    return mask if gate is None else mask & (distances <= gate[labels])


def gates(labels: NDArray[np.integer], distances: NDArray[np.floating], count: int) -> NDArray[np.float64]:
    """Mean + one standard deviation of the distances of each of `count` labels, as in UnsupervisedLandmarks (NeurIPS 2020)."""
    members = np.bincount(labels, minlength=count).clip(1)
    mean = np.bincount(labels, distances, count) / members
    deviation = np.sqrt(np.bincount(labels, (distances - mean[labels]) ** 2, count) / members)
    return np.asarray(mean + deviation)
