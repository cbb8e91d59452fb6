"""The first landmarks: of many clusters those whose places agree best with each other.

K-means into K clusters makes regions: a cluster that covers both corners of a mouth has its exemplar now here, now there, and
self-training only makes it sharper in both places. So descriptors go into several times K clusters, and the K stay whose place on an
image follows best from the places of all others. On real faces that takes the backward NME of the first pseudo-labels from 25 to 8.

Legend: n keypoints, N images, M candidates, K landmarks, D size of a descriptor.
"""

import numpy as np
from numpy.typing import NDArray

from uldscale.clustering import kmeans
from uldscale.clustering.exemplars import keep

MIN_PRESENCE = 0.8
"""Share of images in which a candidate must be found, as far as there are enough of those."""
_RIDGE = 1e-4  # variance of places, in unit coordinates squared, that counts as noise: 1 % of the crop


def discover(
    descriptors: NDArray[np.float32],
    images: NDArray[np.integer],
    points: NDArray[np.float32],
    count: int,
    *,
    candidates: int,
    min_distance: float,
    seed: int,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """`count` landmarks among `candidates` clusters of descriptors (n, D) at `points` (n, 2) of images (n,).

    Returns the centroids (M, D) of all candidates and the numbers (K,) of those chosen. `points` and `min_distance`, see `select`,
    are in unit coordinates.
    """
    centroids = kmeans.fit(descriptors, min(candidates, len(descriptors)), seed=seed)
    labels, distances = kmeans.assign(descriptors, centroids)
    exemplar = keep(images, labels, distances)
    places = _places(images[exemplar], points[exemplar], labels[exemplar], len(centroids))
    return centroids, select(places, count, min_distance)


def select(places: NDArray[np.floating], count: int, min_distance: float) -> NDArray[np.int64]:
    """Numbers (count,) of the candidates, places (N, M, 2) with NaN where missing, that are most predictable, best first.

    One at a time: that with the least error among those whose mean place is at least `min_distance` from all before. Candidates
    that few images have, and then those that are too near to another, come only when there are no others.
    """
    present, means = np.isfinite(places[:, :, 0]).mean(0), _means(places)
    rare, error = present < MIN_PRESENCE, np.where(present > 0, prediction_errors(places), np.inf)
    near, taken = present == 0, np.zeros(len(error), bool)
    chosen = np.empty(count, np.int64)
    for number in range(count):
        best = chosen[number] = np.lexsort((error, near, rare, taken))[0]
        taken[best] = True
        near |= np.linalg.norm(means - means[best], axis=-1) < min_distance
    return chosen


def prediction_errors(places: NDArray[np.floating]) -> NDArray[np.float64]:
    """Mean distance (M,) of each candidate, places (N, M, 2), from what a ridge regression on all others says; a missing
    place counts as the mean. 0 for a candidate that no image has.
    """
    known = np.isfinite(places)
    moves = np.where(known, places - _means(places), 0).astype(np.float64).reshape(len(places), -1)
    covariance = moves.T @ moves / len(moves) + _RIDGE * np.eye(moves.shape[1])
    errors = np.zeros(places.shape[1])
    for j in range(len(errors)):
        own, others = np.array([2 * j, 2 * j + 1]), np.delete(np.arange(moves.shape[1]), [2 * j, 2 * j + 1])
        weights = np.linalg.solve(covariance[np.ix_(others, others)], covariance[np.ix_(others, own)])
        missed = np.linalg.norm(moves[:, own] - moves[:, others] @ weights, axis=1)
        errors[j] = missed[known[:, j, 0]].mean() if known[:, j, 0].any() else 0.0
    return errors


def _means(places: NDArray[np.floating]) -> NDArray[np.floating]:
    """Mean place (M, 2) of each candidate on the images that have it; 0 where none has."""
    known = np.isfinite(places)
    return np.asarray(np.where(known, places, 0).sum(0) / known.sum(0).clip(1))


def _places(
    images: NDArray[np.integer], points: NDArray[np.float32], labels: NDArray[np.int32], count: int
) -> NDArray[np.float32]:
    """Points (n, 2) by image and label, (N, count, 2); NaN where an image has none."""
    numbers, image = np.unique(images, return_inverse=True)
    places = np.full((len(numbers), count, 2), np.nan, np.float32)
    places[image, labels] = points
    return places
