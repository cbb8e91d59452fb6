"""Exemplar assignment (paper 3.1): of all keypoints of an image in a cluster the nearest to the centroid stays."""

import numpy as np
from numpy.typing import NDArray


def keep(
    images: NDArray[np.integer],
    labels: NDArray[np.integer],
    distances: NDArray[np.floating],
    *,
    gate: bool = False,
) -> NDArray[np.bool_]:
    """Mask (n,) of the keypoints that stay: the nearest per (image, label); of equals the first.

    `gate` also drops keypoints farther than mean + one standard deviation of the distances of their label, as
    UnsupervisedLandmarks (NeurIPS 2020) does.
    """
    order = np.lexsort((distances, labels, images))
    first = np.ones(len(order), dtype=bool)
    first[1:] = (np.diff(images[order]) != 0) | (np.diff(labels[order]) != 0)
    mask = np.zeros(len(order), dtype=bool)
    mask[order[first]] = True
    return mask & _within_gate(labels, distances) if gate else mask


def _within_gate(labels: NDArray[np.integer], distances: NDArray[np.floating]) -> NDArray[np.bool_]:
    _, group = np.unique(labels, return_inverse=True)
    count = np.bincount(group)
    mean = np.bincount(group, distances) / count
    deviation = np.sqrt(np.bincount(group, (distances - mean[group]) ** 2) / count)
    return np.asarray(distances <= (mean + deviation)[group])
