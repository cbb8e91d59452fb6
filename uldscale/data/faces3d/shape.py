"""The surface of the head: a skull lofted through three profiles, with the relief of a face on its front.

A surface point has two parameters: theta, the angle about the vertical axis (0 front, +90 degrees at image right), and
t, from 0 at the crown over 5 (brows), 9 (mouth) and 11.5 (edge of the jaw) to 15 (throat). Laws: the neutral head is
symmetric in theta; a point asked for alone (`place`) lies exactly on the surface that `head` samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from uldscale.data.faces3d.curves import eye_frame, lids, lips, mouth_width
from uldscale.data.faces3d.grid import Array, join, smooth
from uldscale.data.faces3d.person import Person

ROWS, COLS = 236, 288
JAW_T = 11.6
CENTRE_Z = -0.15
# One knot a row: front y, front z, side y, side x, back y, back z.
_KNOTS = np.array(
    [
        [1.15, -0.15, 1.15, 0.00, 1.15, -0.15],
        [1.13, 0.15, 1.11, 0.30, 1.10, -0.50],
        [1.00, 0.48, 0.95, 0.56, 0.93, -0.85],
        [0.76, 0.71, 0.71, 0.70, 0.70, -1.03],
        [0.48, 0.82, 0.45, 0.76, 0.44, -1.11],
        [0.20, 0.85, 0.20, 0.78, 0.20, -1.12],
        [-0.05, 0.81, -0.02, 0.77, -0.02, -1.07],
        [-0.28, 0.79, -0.20, 0.75, -0.20, -0.98],
        [-0.50, 0.78, -0.36, 0.72, -0.34, -0.88],
        [-0.72, 0.75, -0.50, 0.68, -0.46, -0.78],
        [-0.92, 0.71, -0.63, 0.63, -0.56, -0.70],
        [-1.08, 0.68, -0.73, 0.575, -0.64, -0.64],
        [-1.16, 0.56, -0.79, 0.51, -0.70, -0.60],
        [-1.15, 0.36, -0.81, 0.41, -0.73, -0.50],
        [-1.08, 0.12, -0.81, 0.28, -0.74, -0.38],
        [-1.02, -0.05, -0.80, 0.15, -0.74, -0.25],
    ],
    dtype=np.float32,
)
_FINE = 32  # table steps a knot


@dataclass(frozen=True)
class Surface:
    """The sampled head: theta (C,) in radians, t (R,), skull x, y, z (R, C) and points (R, C, 3) with the relief."""

    theta: Array
    t: Array
    x: Array
    y: Array
    z: Array
    points: Array

    def window(self, t0: float, t1: float, angle0: float, angle1: float) -> tuple[slice, slice]:
        """Index of the patch t0..t1, angle0..angle1 (degrees)."""
        r0, r1 = np.searchsorted(self.t, (t0, t1))
        c0, c1 = np.searchsorted(self.theta, np.radians((angle0, angle1)))
        return slice(int(r0), int(r1)), slice(int(c0), int(c1))


@lru_cache(maxsize=1)
def _table() -> Array:
    """The profiles on a fine, smoothed scale of t: (steps, 6)."""
    knots = np.arange(len(_KNOTS))
    fine = np.linspace(0, len(_KNOTS) - 1, (len(_KNOTS) - 1) * _FINE + 1)
    kernel = np.hanning(2 * _FINE + 1)
    kernel /= kernel.sum()
    columns = []
    for column in _KNOTS.T:
        line = np.interp(fine, knots, column)
        ahead, behind = 2 * line[0] - line[_FINE:0:-1], 2 * line[-1] - line[-2 : -_FINE - 2 : -1]
        columns.append(np.convolve(np.concatenate([ahead, line, behind]), kernel, "valid"))
    return np.stack(columns, axis=1).astype(np.float32)


def _profiles(p: Person, t: Array) -> tuple[Array, ...]:
    """This person's six profile numbers at t, by linear look-up in the table."""
    at = np.clip(t * _FINE, 0, len(_table()) - 1.001)
    low = at.astype(np.int64)
    share = (at - low)[..., None]
    rows = _table()[low] * (1 - share) + _table()[low + 1] * share
    front_y, front_z, side_y, side_x, back_y, back_z = np.moveaxis(rows.astype(np.float32), -1, 0)
    lower, upper = smooth(1.5, t - 9.5), smooth(2.0, 2.5 - t)
    front_y = front_y - lower * (p.chin_drop + 0.75 * p.gape) + upper * (p.crown - 1)
    front_z = front_z + lower * (p.chin_out - 0.15 * p.gape)
    side_y = side_y - lower * 0.15 * p.gape + upper * (p.crown - 1)
    side_x = side_x * p.width * (1 + (p.jaw - 1) * smooth(3.0, t - 8))
    return front_y, front_z, side_y, side_x, back_y + upper * (p.crown - 1), CENTRE_Z + (back_z - CENTRE_Z) * p.depth


def skull(p: Person, theta: Array, t: Array) -> tuple[Array, Array, Array]:
    """x, y, z of the head without its face; theta and t broadcast."""
    front_y, front_z, side_y, side_x, back_y, back_z = _profiles(p, t)
    sin, cos = np.sin(theta), np.cos(theta)
    # A square-ish section at the temples, a rounder one at the chin.
    power = 2.45 + (p.chin_round - 2.45) * smooth(2.5, t - 9.5)
    bulge = (np.abs(sin) ** power + np.abs(cos) ** power) ** (-1 / power)
    front, square = cos > 0, cos * cos
    z = CENTRE_Z + bulge * np.abs(cos) * np.where(front, front_z - CENTRE_Z, back_z - CENTRE_Z)
    y = side_y + square * (np.where(front, front_y, back_y) - side_y)
    return side_x * bulge * sin, y, z


def _bump(u: Array, v: Array) -> Array:
    return np.exp(-(u * u + v * v))


def relief(p: Person, x: Array, y: Array) -> tuple[Array, Array]:
    """How far the face lifts a skull point (x, y) along z, and how far it drags it along y."""
    nose = _nose(p, x, y)
    lift = _eyes(p, x, y) + _mouth(p, x, y) + _cheeks(p, x, y) + _chin(p, x, y) + nose
    return lift, -0.16 * nose


def _eyes(p: Person, x: Array, y: Array) -> Array:
    """Sockets, balls, lids and the ridge of the brows."""
    u, v = eye_frame(p, 1, np.abs(x), y)
    upper, lower = (np.where(x < 0, *pair) for pair in zip(lids(p, -1, u), lids(p, 1, u), strict=True))
    inside = smooth(0.014, np.minimum(upper - v, v - lower))
    near = _bump(u * 0.8, v / 0.12)
    lift = -p.socket * _bump((u + 0.15) / 1.25, (v - 0.02) / 0.14) + 0.075 * near + 0.03 * (1 - inside) * near
    crease = -0.018 * _bump(u / 1.1, (v - upper - 0.05) / 0.018)
    raised = np.where(x < 0, np.float32(p.brow_raise[0]), np.float32(p.brow_raise[1]))
    ridge = p.ridge * _bump((u + 0.2) / 1.4, (y - p.brow_y - raised) / 0.085)
    return np.asarray(lift + crease + ridge)


def _nose(p: Person, x: Array, y: Array) -> Array:
    """Bridge, tip and wings, with a steep underside."""
    start = p.eye_y + 0.07
    k = np.clip((start - y) / (start - p.nose_y), 0, 1)
    height = p.bridge + (p.nose_out - p.bridge) * k**1.35 + p.hook * np.sin(np.pi * k)
    above = smooth(0.13, start + 0.05 - y)
    below = np.sqrt(np.maximum(1 - np.maximum(p.nose_y - y, 0) ** 2 / 0.115**2, 0))
    width = 0.062 + (0.66 * p.nose_w - 0.062) * k * k
    ridge = height * above * below * np.exp(-(np.abs(x / width) ** 1.9))
    tip = p.tip * _bump(x / 0.075, (y - p.nose_y) / 0.075)
    wing = 0.125 * _bump((np.abs(x) - 0.9 * p.nose_w) / 0.05, (y - p.nose_y + 0.035) / 0.062)
    hole = -0.06 * _bump((np.abs(x) - 0.5 * p.nose_w) / 0.026, (y - p.nose_y + 0.085) / 0.024)
    return np.asarray(ridge + tip + wing + hole)


def _cheeks(p: Person, x: Array, y: Array) -> Array:
    side = np.abs(x)
    bone = p.cheek * _bump((side - 0.47) / 0.2, (y + 0.2) / 0.16)
    apple = (0.03 + 0.05 * max(p.smile, 0)) * _bump((side - 0.36) / 0.15, (y + 0.36) / 0.14)
    hollow = -p.hollow * _bump((side - 0.5) / 0.16, (y + 0.62) / 0.2)
    line = side - 0.17 - 0.5 * (-0.38 - y)  # the fold from the wing of the nose to the corner of the mouth
    fold = -(0.012 + 0.03 * max(p.smile, 0)) * _bump(line / 0.035, (y + 0.52) / 0.13)
    return np.asarray(bone + apple + hollow + fold)


def _mouth(p: Person, x: Array, y: Array) -> Array:
    wide = mouth_width(p)
    s = x / wide
    top, upper, lower, low = lips(p, np.clip(s, -1, 1))
    fade = np.exp(-(np.abs(s) ** 4) * 0.8)
    muzzle = 0.065 * _bump(x / 0.34, (y - p.mouth_y) / 0.2)
    upper_lip = p.lip_out * np.exp(-((np.abs(y - (0.4 * top + 0.6 * upper)) / (0.6 * p.lip_up)) ** 2.0)) * fade
    lower_lip = p.lip_out * np.exp(-((np.abs(y - (0.55 * low + 0.45 * lower)) / (0.55 * p.lip_low)) ** 2.0)) * fade
    gap = smooth(0.014, np.minimum(upper - y, y - lower)) * smooth(0.05, 0.9 - np.abs(s))
    inside = -min(0.1, 0.6 * p.gape) * gap
    groove = -0.014 * _bump(x / 0.028, (y - p.mouth_y - 0.13) / 0.06)
    dimple = -0.025 * _bump((np.abs(s) - 1.08) / 0.13, (y - p.mouth_y - 0.05 * p.smile) / 0.04)
    return np.asarray(muzzle + upper_lip + lower_lip + inside + groove + dimple)


def _chin(p: Person, x: Array, y: Array) -> Array:
    down = p.chin_drop + 0.8 * p.gape
    pit = -0.055 * _bump(x / 0.22, (y - p.mouth_y + 0.2 + down) / 0.06)
    return np.asarray(pit + (0.085 + p.chin_out) * _bump(x / 0.17, (y + 1.03 + down) / 0.11))


def place(p: Person, theta: Array, t: Array) -> Array:
    """(N, 3) points of the finished surface at theta, t (N,)."""
    x, y, z = skull(p, theta, t)
    lift, drag = relief(p, x, y)
    front = _frontness(theta)
    return np.stack([x, y + drag * front, z + lift * front], axis=-1)


def _frontness(theta: Array) -> Array:
    return smooth(0.22, 1.45 - np.abs(theta))


def head(p: Person) -> Surface:
    """The head sampled on ROWS x COLS points, closer together where the face is."""
    q = np.linspace(-1, 1, COLS, dtype=np.float32)
    theta = np.pi * (0.55 * q + 0.45 * q**3)
    t = np.interp(np.linspace(0, 1, ROWS), [0, 0.14, 0.9, 1], [0, 3.6, 12.4, 15]).astype(np.float32)
    x, y, z = skull(p, theta[None, :], t[:, None])
    surface = Surface(theta, t, x, y, z, join(x, y, z))
    patch = surface.window(2.9, 13.5, -96, 96)
    lift, drag = relief(p, x[patch], y[patch])
    front = _frontness(theta[patch[1]])
    surface.points[(*patch, 1)] += drag * front
    surface.points[(*patch, 2)] += lift * front
    return surface
