"""Consistency (paper supplement 8, SAIC): landmarks of a moved image against moved landmarks of the image."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Consistency:
    """Mean distances in pixels of the crop."""

    error_px: float | None  # mean over landmarks; None when no landmark can be compared
    per_landmark_px: tuple[float | None, ...]  # None for a landmark that can never be compared
    skip_rate: float  # share of pairs that cannot be compared

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dict(vars(self))


def consistency(
    points: NDArray[np.floating], moved: NDArray[np.floating], matrices: NDArray[np.floating], size: float
) -> Consistency:
    """Distance between M x landmarks(I) and landmarks(M I), mean over images per landmark, then over landmarks.

    points, moved: (n, K, 2) unit coordinates of the landmarks in the image and in its moved view, NaN = missing;
    matrices: (n, 3, 3) from unit coordinates of the image to those of the view; size: pixels a side of the crop. A pair
    is skipped when the landmark is missing in either view or leaves the view as it moves.
    """
    apart = distances(points, moved, matrices, size)
    comparable = np.isfinite(apart)
    counts = comparable.sum(axis=0)
    totals = np.where(comparable, apart, 0).sum(axis=0)
    errors = [float(total / count) if count else None for total, count in zip(totals, counts, strict=True)]
    measured = [error for error in errors if error is not None]
    return Consistency(
        error_px=float(np.mean(measured)) if measured else None,
        per_landmark_px=tuple(errors),
        skip_rate=float(1 - comparable.mean()) if comparable.size else 1.0,
    )


def distances(
    points: NDArray[np.floating], moved: NDArray[np.floating], matrices: NDArray[np.floating], size: float
) -> NDArray[np.float64]:
    """(n, K) the distances behind `consistency` in pixels of the crop, NaN for a pair that is skipped."""
    expected = _move(np.asarray(points, dtype=np.float64), np.asarray(matrices, dtype=np.float64))
    inside = ((expected >= 0) & (expected <= 1)).all(axis=-1)
    return np.where(inside, size * np.linalg.norm(expected - moved, axis=-1), np.nan)


def _move(points: NDArray[np.float64], matrices: NDArray[np.float64]) -> NDArray[np.float64]:
    homogeneous = np.concatenate([points, np.ones_like(points[..., :1])], axis=-1) @ matrices.transpose(0, 2, 1)
    return np.asarray(homogeneous[..., :2] / homogeneous[..., 2:])
