"""Poses of images from a few of them: what is fitted once, and tells the pose of any image by itself.

Legend: N images, K landmarks, Q poses, Z size of a pose code.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from uldscale.clustering import curve, kmeans
from uldscale.clustering.curve import Votes
from uldscale.clustering.shapes import PoseSpace


@dataclass(frozen=True)
class Poses:
    """Images with known poses, of which the nearest vote on that of another."""

    space: PoseSpace
    votes: Votes

    @classmethod
    def fit(
        cls,
        codes: NDArray[np.float32],
        places: NDArray[np.float32],
        before: NDArray[np.integer],
        count: int,
        *,
        seed: int,
    ) -> Self:
        """From some images' codes (N, Z), places (N, K, 2) of the last round's landmarks, NaN where missing, K = 0 without one,
        and the poses (N,) that they had, which go on; where all are -1, `count` poses are cut anew. At most `SAMPLE` images are looked
        at.
        """
        voting = np.flatnonzero(before >= 0) if (before >= 0).any() else np.arange(len(codes))
        some = kmeans.draw(voting, curve.SAMPLE, seed)
        codes, places, before = codes[some], places[some], before[some]
        space = PoseSpace.fit(codes, places, seed=seed)
        vectors = space.of(codes, places)
        known = before if (before >= 0).any() else curve.cut(vectors, count, seed=seed)
        return cls(space, Votes.drawn(vectors, known, seed=seed))

    def of(self, codes: NDArray[np.float32], places: NDArray[np.float32]) -> NDArray[np.int32]:
        """Pose (N,) of images with codes (N, Z) and places (N, K, 2)."""
        return self.votes.of(self.space.of(codes, places))

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """By name, for keeping; `from_arrays` is the way back."""
        return {
            "known": self.space.known, "centre": self.space.centre, "scale": self.space.scale,
            "voters": self.votes.codes, "votes": self.votes.poses,
        }  # fmt: skip

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[np.generic]]) -> Self:
        """Poses from what `arrays` gave."""
        known, centre, scale, voters, votes = (arrays[name] for name in ("known", "centre", "scale", "voters", "votes"))
        return cls(PoseSpace(known, centre, scale), Votes(voters, votes))  # type: ignore[arg-type]
