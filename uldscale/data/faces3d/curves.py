"""The drawn lines of a face (lids, brows, lips) as functions in the face plane.

Shape, texture and landmarks all ask here, so a landmark sits on the painted line by construction. A side is -1 for the
eye at the image left and +1 for the one at the image right; u runs from -1 (inner end) to +1 (outer end).
"""

from __future__ import annotations

import numpy as np

from uldscale.data.faces3d.grid import Array
from uldscale.data.faces3d.person import Person

INNER = 0.86  # the lips' inner corners as a share of the mouth's half width


def eye_frame(p: Person, side: int, x: Array, y: Array) -> tuple[Array, Array]:
    """(u, v) of an eye: u along it in half widths, v above its axis in head units."""
    u = (x * side - p.eye_x) / p.eye_w
    return u, y - p.eye_y - p.eye_tilt * u


def eye_point(p: Person, side: int, u: Array, v: Array) -> tuple[Array, Array]:
    """The inverse of `eye_frame`."""
    return side * (p.eye_x + p.eye_w * u), p.eye_y + p.eye_tilt * u + v


def lids(p: Person, side: int, u: Array) -> tuple[Array, Array]:
    """v of the upper and the lower lid over u; both 0 at the corners."""
    height = p.eye_open[0 if side < 0 else 1]
    arc = np.maximum(1 - u * u, 0)
    return height * arc**0.7 * (1 - 0.12 * u), -(0.012 + 0.5 * height) * arc**0.85 * (1 + 0.1 * u)


def brow(p: Person, side: int, u: Array) -> Array:
    """y of the brow's middle line over u."""
    lift = p.brow_raise[0 if side < 0 else 1]
    return p.brow_y + lift + p.brow_arch * (1 - (u - 0.2) ** 2) + p.brow_tilt * u


def brow_x(p: Person, u: Array) -> Array:
    """Distance of the brow's point u from the middle of the face."""
    return p.eye_x - 0.012 + p.brow_w * u


def brow_u(p: Person, x: Array) -> Array:
    """The inverse of `brow_x`."""
    return (x - p.eye_x + 0.012) / p.brow_w


def lips(p: Person, s: Array) -> tuple[Array, Array, Array, Array]:
    """y of the outer upper, inner upper, inner lower and outer lower lip lines over s = x / mouth half width."""
    arc = np.maximum(1 - s * s, 0)
    inner = np.maximum(1 - (s / INNER) ** 2, 0)
    base = p.mouth_y + 0.075 * p.smile * (s * s - 0.35)
    dip = 1 - 0.22 * np.exp(-((s / 0.13) ** 2)) + 0.08 * np.exp(-(((np.abs(s) - 0.3) / 0.15) ** 2))
    top = base + 0.1 * p.gape * inner
    low = base - 0.9 * p.gape * inner**0.8
    return top + p.lip_up * arc**0.8 * dip, top, low, low - p.lip_low * arc**0.6


def mouth_width(p: Person) -> float:
    """Half width of the mouth: a smile widens it, an open jaw narrows it."""
    return p.mouth_w * (1 + 0.12 * p.smile - 0.4 * p.gape)
