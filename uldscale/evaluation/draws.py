"""Training images on which the regressors are fitted, drawn at random, and what is missing on them completed.

Protocols that differ in the normaliser or the ridge have the same draws. Where landmarks are missing, completion is most of the time.

Legend: n images, K landmarks, P annotated points, NaN = missing.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uldscale.evaluation.protocols import Protocol
from uldscale.evaluation.regression import complete

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Draw:
    """Some training images."""

    landmarks: Points
    """(n, K, 2)."""
    points: Points
    """(n, P, 2)."""
    completed_landmarks: Points
    """(n, 2K), nothing missing."""
    completed_points: Points
    """(n, 2P), nothing missing."""


def kind_of_draws(protocol: Protocol) -> tuple[str, int | None, int]:
    """What the draws of a protocol depend on."""
    return protocol.points, protocol.num_train, protocol.repeats


def make_draws(landmarks: Points, points: Points, protocol: Protocol, seed: int) -> list[Draw]:
    """The protocol's draws of images with landmarks (n, K, 2) and points (n, P, 2); a single one where it takes all of them."""
    return [_draw(landmarks[rows], points[rows]) for rows in _rows(len(points), protocol, seed)]


def _draw(landmarks: Points, points: Points) -> Draw:
    return Draw(landmarks, points, _completed(landmarks), _completed(points))


def _completed(places: Points) -> Points:
    return complete(places.reshape(len(places), 2 * places.shape[1]))


def _rows(num_images: int, protocol: Protocol, seed: int) -> list[NDArray[np.int64]]:
    # The reference codes take one image more than they say; these do not.
    count = num_images if protocol.num_train is None else min(protocol.num_train, num_images)
    # All images can be drawn in one way only.
    repeats = 1 if count == num_images else protocol.repeats
    generator = np.random.default_rng(seed)
    return [np.sort(generator.permutation(num_images)[:count]) for _ in range(repeats)]
