"""The images on which a method does best and worst, by their names."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uldscale.data.index import ImageIndex
from uldscale.evaluation.consistency import distances
from uldscale.evaluation.nme import NmeResult
from uldscale.probes import Probe

COUNT = 6
"""Images at either end."""


def by_error(index: ImageIndex, rows: NDArray[np.int64], errors: NmeResult) -> dict[str, Any]:
    """By forward error in percent on some rows, which are those of the errors."""
    return _ends(index, rows, np.array(errors.per_image_forward), f"forward NME, % ({errors.protocol})")


def by_consistency(index: ImageIndex, points: NDArray[np.float32], probe: Probe, side: float) -> dict[str, Any]:
    """By how far landmarks (N, K, 2) of rows are from where they were moved, in pixels of a crop of `side`."""
    turned = np.linalg.det(probe.matrices) > 0
    rows = probe.rows[turned]
    apart = distances(points[rows], probe.moved[turned], probe.matrices[turned], side)
    known = np.isfinite(apart)
    means = np.where(known.any(1), np.where(known, apart, 0).sum(1) / np.maximum(1, known.sum(1)), np.nan)
    return _ends(index, rows, means, f"consistency, px of {side:g}")


def _ends(index: ImageIndex, rows: NDArray[np.int64], values: NDArray[np.float64], measure: str) -> dict[str, Any]:
    ordered = np.flatnonzero(np.isfinite(values))[np.argsort(values[np.isfinite(values)], kind="stable")]
    # No image is among the best and the worst.
    count = min(COUNT, len(ordered) // 2)
    ends: Mapping[str, NDArray[np.int64]] = {"best": ordered[:count], "worst": ordered[::-1][:count]}
    named = {
        end: [{"id": index.row(int(rows[place])).id, "value": float(values[place])} for place in places]
        for end, places in ends.items()
    }
    return {"measure": measure, **named}
