"""The 68 points of the iBUG scheme as places on the surface.

Most are given in the face plane (x, y), where the lines of `curves` live, and found on the skull by Newton's method;
the jaw is given by surface parameters. Law: the neutral face's landmarks are symmetric under `MIRROR`.
"""

from __future__ import annotations

import numpy as np

from uldscale.data.faces3d.curves import INNER, brow, brow_x, eye_point, lids, lips, mouth_width
from uldscale.data.faces3d.grid import Array
from uldscale.data.faces3d.person import Person
from uldscale.data.faces3d.shape import JAW_T, place, skull

COUNT = 68
# MIRROR[i] is the landmark that i becomes when the picture is flipped left to right.
MIRROR = np.array(
    [*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31]
    + [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
    + [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]
)


def landmarks(p: Person) -> Array:
    """(68, 3) points on the head's surface in head units."""
    theta, t = _jaw()
    plane = np.concatenate([_brows(p), _nose(p), _eyes(p), _mouth(p)])
    found_theta, found_t = _on_skull(p, plane[:, 0], plane[:, 1])
    return place(p, np.concatenate([theta, found_theta]), np.concatenate([t, found_t]))


def _jaw() -> tuple[Array, Array]:
    s = np.linspace(-1, 1, 17)
    side = np.abs(s)
    theta = np.interp(side, [0, 0.25, 0.5, 0.625, 0.75, 1], np.radians([0, 24, 50, 66, 76, 80]))
    t = np.interp(side, [0, 0.5, 0.625, 0.75, 1], [JAW_T, JAW_T, JAW_T - 0.5, 9.6, 6.1])
    return np.sign(s) * theta, t


def _brows(p: Person) -> Array:
    u = np.linspace(1, -1, 5)
    left = np.stack([-brow_x(p, u), brow(p, -1, u)], axis=1)
    right = np.stack([brow_x(p, u), brow(p, 1, u)], axis=1)
    return np.concatenate([left, right[::-1]])


def _nose(p: Person) -> Array:
    bridge = np.linspace(p.eye_y + 0.03, p.nose_y, 4)
    x = p.nose_w * np.array([-0.95, -0.48, 0, 0.48, 0.95])
    y = p.nose_y - np.array([0.075, 0.1, 0.115, 0.1, 0.075])
    return np.concatenate([np.stack([np.zeros(4), bridge], axis=1), np.stack([x, y], axis=1)])


def _eyes(p: Person) -> Array:
    u = np.array([1, 1 / 3, -1 / 3, -1, -1 / 3, 1 / 3])
    pick = np.array([0, 0, 0, 0, 1, 1])
    left, right = (
        np.stack(eye_point(p, side, u, np.stack(lids(p, side, u))[pick, np.arange(6)]), axis=1) for side in (-1, 1)
    )
    return np.concatenate([left, right[[3, 2, 1, 0, 5, 4]]])


def _mouth(p: Person) -> Array:
    wide = mouth_width(p)
    s = np.array([-1, -0.62, -0.27, 0, 0.27, 0.62, 1])
    top, _, _, low = lips(p, s)
    inner = np.array([-INNER, -0.32, 0, 0.32, INNER])
    _, upper, lower, _ = lips(p, inner)
    outer_x, inner_x = s * wide, inner * wide
    x = np.concatenate([outer_x, outer_x[-2:0:-1], inner_x, inner_x[-2:0:-1]])
    return np.stack([x, np.concatenate([top, low[-2:0:-1], upper, lower[-2:0:-1]])], axis=1)


def _on_skull(p: Person, x: Array, y: Array) -> tuple[Array, Array]:
    """theta and t where the skull has the plane coordinates x, y (Newton; the front of the skull is a graph)."""
    theta, t, step = np.arcsin(np.clip(x / 0.95, -0.9, 0.9)), 5.9 - y * 4.4, 1e-2
    for _ in range(9):
        thetas, ts = np.stack([theta, theta + step, theta]), np.stack([t, t, t + step])
        xs, ys, _ = skull(p, thetas, ts)
        xa, xb = (xs[1] - xs[0]) / step, (xs[2] - xs[0]) / step
        ya, yb = (ys[1] - ys[0]) / step, (ys[2] - ys[0]) / step
        dx, dy, det = x - xs[0], y - ys[0], xa * yb - xb * ya
        theta = np.clip(theta + np.clip((dx * yb - xb * dy) / det, -0.3, 0.3), -1.5, 1.5)
        t = np.clip(t + np.clip((xa * dy - dx * ya) / det, -0.6, 0.6), 2.5, 12.5)
    return theta, t
