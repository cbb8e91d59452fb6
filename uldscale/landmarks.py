"""What a detector has found on some images.

B images, K landmarks, D numbers in a descriptor.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Landmarks:
    """Landmarks of some images."""

    points: NDArray[np.float32]
    """(B, K, 2) x, y; NaN where missing."""
    scores: NDArray[np.float32]
    """(B, K) detector confidence in [0, 1]; 0 where missing."""
    visibility: NDArray[np.float32]
    """(B, K) probability that it is seen, and not hidden where it stands; 0 where missing."""
    poses: NDArray[np.int64]
    """(B,) pose cluster of each image; 0 for a model without poses."""
    descriptors: NDArray[np.float32]
    """(B, K, D) of unit norm; NaN where missing."""
    names: tuple[str, ...]
    """Of the K landmarks."""


def joined(parts: Sequence[Landmarks]) -> Landmarks:
    """The images of all parts, one after the other."""
    return Landmarks(
        points=np.concatenate([part.points for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
        visibility=np.concatenate([part.visibility for part in parts]),
        poses=np.concatenate([part.poses for part in parts]),
        descriptors=np.concatenate([part.descriptors for part in parts]),
        names=parts[0].names,
    )
