"""Where landmarks are in their crops, told without annotations: on a point, on the frame, at the same places of every crop.

Legend: n images, K landmarks. Points are unit coordinates of the crop, NaN = missing.
"""

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.floating]

FRAME_CELL = 0.03
"""Distance from the edge of the allowed area that counts as on it: a cell of the usual grid of 32."""
MOVED = 0.05
"""A landmark whose image moves it by less cannot tell whether it follows the object."""


def shares_found(points: Points) -> NDArray[np.float64]:
    """(K,) share of images (n, K, 2) on which each landmark is found."""
    return np.asarray(np.isfinite(points).all(-1).mean(0))


def pair_distances(points: Points) -> NDArray[np.float64]:
    """(K, K) median distance between two landmarks over the images (n, K, 2) that have both; infinite for a landmark to itself and
    where no image has both.
    """
    count = points.shape[1]
    distances = np.full((count, count), np.inf)
    for first in range(count):
        for second in range(first):
            apart = np.linalg.norm(points[:, first] - points[:, second], axis=-1)
            if (known := apart[np.isfinite(apart)]).size:
                distances[first, second] = distances[second, first] = np.median(known)
    return distances


def groups(distances: NDArray[np.float64], reach: float) -> list[list[int]]:
    """Landmarks that are within `reach` of each other, directly or through others, from their distances (K, K); no lone ones."""
    found: list[list[int]] = []
    for landmark in range(len(distances)):
        near = [group for group in found if (distances[landmark, group] < reach).any()]
        found = [group for group in found if group not in near]
        found.append(sorted([landmark, *(other for group in near for other in group)]))
    return sorted(group for group in found if len(group) > 1)


def extent(points: Points) -> float:
    """How far landmarks (n, K, 2) reach on a typical image: root mean square distance from their centre, median over the images with
    two or more of them; NaN without such an image.
    """
    found: NDArray[np.bool_] = np.asarray(np.isfinite(points).all(-1))
    shown, found = points[found.sum(1) > 1], found[found.sum(1) > 1]
    if not len(shown):
        return float("nan")
    offsets = shown - np.nanmean(shown, axis=1, keepdims=True)
    return float(np.median(np.sqrt(np.nansum(np.square(offsets), axis=(1, 2)) / found.sum(1))))


def shares_on_frame(points: Points, border: float) -> NDArray[np.float64]:
    """(K,) share of the found places of each landmark (n, K, 2) that lie on the edge of the area that is `border` away from the
    crop's own edge; 0 for a landmark that is never found.
    """
    inside = np.minimum(points, 1 - points).min(-1) - border
    return np.asarray((inside < FRAME_CELL).sum(0) / np.maximum(1, np.isfinite(inside).sum(0)))


def scatter(points: Points) -> NDArray[np.float64]:
    """(K,) how far places of each landmark (n, K, 2) scatter over the crop: median distance from their median; NaN for a landmark
    that is found on fewer than two images.
    """
    found = np.full(points.shape[1], np.nan)
    for landmark in range(points.shape[1]):
        own = points[np.isfinite(points[:, landmark]).all(-1), landmark]
        if len(own) > 1:
            found[landmark] = np.median(np.linalg.norm(own - np.median(own, axis=0), axis=-1))
    return found


def shares_unmoved(points: Points, moved: Points, matrices: NDArray[np.floating]) -> NDArray[np.float64]:
    """(K,) share of images in which a landmark stays where it was in the crop, although the image was moved under it.

    points, moved: (n, K, 2) of the image and of its moved view; matrices: (n, 3, 3) from unit coordinates of the image to those of
    the view. It stays when it is nearer to its old place than to where the image went. NaN without an image that moves it.
    """
    homogeneous = np.concatenate([points, np.ones_like(points[..., :1])], -1) @ matrices.transpose(0, 2, 1)
    expected = homogeneous[..., :2] / homogeneous[..., 2:]
    told = np.linalg.norm(expected - points, axis=-1) > MOVED
    told &= np.isfinite(moved).all(-1)
    stays = np.linalg.norm(moved - points, axis=-1) < np.linalg.norm(moved - expected, axis=-1)
    return np.where(told.any(0), (told & stays).sum(0) / np.maximum(1, told.sum(0)), np.nan)
