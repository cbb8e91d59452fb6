"""Annotated points: from numbers in a file to the landmarks and the box of a record."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from uldscale.data.sources import Box, Record
from uldscale.errors import DataError

Landmarks = NDArray[np.float32]
_LARGEST = 1e7  # no image is as wide; what is beyond float32 would become infinite


def landmarks(values: ArrayLike, place: str) -> Landmarks:
    """(L, 2) float32 of L points (x, y) in pixels. Raises DataError, which names their place, unless all are finite."""
    points = np.asarray(values, np.float64).reshape(-1, 2)
    wrong = ~(np.abs(points) <= _LARGEST)
    if wrong.any():
        number = int(np.flatnonzero(wrong.any(1))[0])
        x, y = points[number]
        raise DataError(f"{place}: point {number + 1} of {len(points)} is ({x:g}, {y:g}); wanted pixels")
    return points.astype(np.float32)


def numbers(words: Sequence[str], place: str) -> list[float]:
    """Values of words. Raises DataError, which names their place, for a word that is no number."""
    values = []
    for word in words:
        try:
            values.append(float(word))
        except ValueError:
            raise DataError(f"{place}: got {word!r:.60}, wanted a number") from None
    return values


def around(points: Landmarks) -> Box:
    """The smallest box (x0, y0, x1, y1) around points (L, 2)."""
    (x0, y0), (x1, y1) = points.min(0).tolist(), points.max(0).tolist()
    return x0, y0, x1, y1


def annotate(record: Record, read: Callable[[str], Landmarks], path: str) -> Record:
    """The record with the landmarks that `read` finds in its annotation file, and the box around them.

    Where `read` raises DataError, the record is broken, and the error is the reason.
    """
    try:
        points = read(path)
    except DataError as problem:
        return replace(record, broken=str(problem))
    return replace(record, landmarks=points, box=around(points))
