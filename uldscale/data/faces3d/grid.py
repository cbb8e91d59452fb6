"""Arrays over a grid of surface points: their type, soft steps, and how vectors lie in memory.

Vectors are indexed last (R, C, 3), but `join` stores them plane by plane: numpy is several times faster on long inner
loops than on loops of three.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]


def smooth(edge: float, x: Array) -> Array:
    """0 below -edge, 1 above edge, smooth between."""
    t = np.clip(x * (0.5 / edge) + 0.5, 0, 1)
    return np.asarray(t * t * (3 - 2 * t))


def join(*channels: Array) -> Array:
    """Broadcasts the channels and puts them on a new last axis, float32, plane by plane in memory."""
    shape = np.broadcast_shapes(*(c.shape for c in channels))
    planes = np.empty((len(channels), *shape), np.float32)
    for plane, channel in zip(planes, channels, strict=True):
        plane[...] = channel
    return np.moveaxis(planes, 0, -1)


def tinted(colour: Array, level: Array) -> Array:
    """A colour (3,) times a level (R, C): (R, C, 3), cut to 0..1."""
    return join(*(np.clip(c * level, 0, 1) for c in colour))


def unit(x: Array, y: Array, z: Array) -> Array:
    """(..., 3) vectors of length one."""
    length = np.sqrt(x * x + y * y + z * z) + 1e-9
    return join(x / length, y / length, z / length)
