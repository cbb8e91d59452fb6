"""Annotated landmarks of an index, and the protocols by which they judge a method.

N rows of the index, P annotated points.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uldscale.data.index import ImageIndex
from uldscale.errors import ConfigError
from uldscale.evaluation import nme
from uldscale.evaluation.yaw import with_estimates

Points = NDArray[np.float32]

SIDE = 128
"""Side in pixels of the crop in which errors are told, whatever the size of the run's crops (paper, Table 4)."""


@dataclass(frozen=True)
class Truth:
    """Annotated landmarks, with the rows that have them."""

    train: NDArray[np.int64]
    test: NDArray[np.int64]
    points: NDArray[np.float32]
    """(N, P, 2) pixels of a crop of SIDE, NaN where there is none."""
    scale: NDArray[np.float32]
    """(N, 1, 2) pixels of a unit coordinate, in the proportions of the image: the longer side of a crop counts as SIDE."""
    yaw: NDArray[np.float64]
    """(N,) degrees, estimated from the points where only other images have it; NaN where unknown."""

    @classmethod
    def of(cls, index: ImageIndex) -> "Truth | None":
        """The truth of an index, or None when it has no test images with landmarks."""
        rows = np.arange(len(index))
        scale = SIDE * index.proportions(rows)[:, None]
        points = index.landmarks(rows) * scale
        known: NDArray[np.bool_] = np.asarray(np.isfinite(points).all(-1).any(-1), bool)
        train, test = (rows[known[rows]] for rows in (index.rows("train"), index.rows("test")))
        if not (len(train) and len(test)):
            return None
        return cls(train, test, points, scale, yaw=with_estimates(points, index.yaw(rows), train))

    def protocols(self, shown: tuple[str, ...] | None) -> list[nme.Protocol]:
        """How errors are measured; see `chosen_protocols`."""
        return chosen_protocols(self.points.shape[1], shown)

    def split(self, points: NDArray[np.float32]) -> tuple[Points, Points, Points, Points]:
        """Predicted and annotated points of the training images, then those of the test images."""
        return points[self.train], self.points[self.train], points[self.test], self.points[self.test]


def chosen_protocols(num_points: int, shown: tuple[str, ...] | None) -> list[nme.Protocol]:
    """The protocols for so many annotated points, those that are shown first. Raises ConfigError when one of them is not among them."""
    known = {protocol.name: protocol for protocol in nme.protocols_for(num_points)}
    if unknown := set(shown or ()) - known.keys():
        raise ConfigError(
            f"evaluate.shown: {num_points} annotated points have no protocol {min(unknown)!r}; there are {', '.join(known)}"
        )
    return [known[name] for name in dict.fromkeys([*(shown or ()), *known])]
