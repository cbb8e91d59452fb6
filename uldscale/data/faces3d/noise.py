"""Smooth random fields of any shape, drawn on a small grid and spread by linear interpolation.

Law: what is drawn from the generator depends on the small grid only, so pictures of every size see the same field.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.random import Generator

from uldscale.data.faces3d.grid import Array


@lru_cache(maxsize=64)
def _spread(small: int, large: int) -> Array:
    """(large, small) weights of linear interpolation."""
    at = np.linspace(0, small - 1, large)
    return np.asarray(np.maximum(1 - np.abs(at[:, None] - np.arange(small)), 0), dtype=np.float32)


def enlarge(field: Array, rows: int, cols: int) -> Array:
    """(h, w) or (h, w, C) interpolated to (rows, cols) or (rows, cols, C)."""
    if field.ndim == 3:
        return np.stack([enlarge(field[..., c], rows, cols) for c in range(field.shape[2])], axis=-1)
    return np.asarray(_spread(field.shape[0], rows) @ field @ _spread(field.shape[1], cols).T)


def field(rng: Generator, small: tuple[int, int], rows: int, cols: int) -> Array:
    """(rows, cols) smooth noise with about unit spread, with small[0] x small[1] knots."""
    return enlarge(rng.standard_normal(small, dtype=np.float32), rows, cols)
