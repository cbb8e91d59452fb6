"""What is painted on the head: skin, brows, eyes, lips, nostrils, beard.

Everything is a function of the skull's (x, y), the plane of `curves`; a layer touches its own window only. Law: the
painted lines are those the landmarks are taken from.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from uldscale.data.faces3d.curves import brow, brow_u, eye_frame, lids, lips, mouth_width
from uldscale.data.faces3d.grid import Array, smooth, tinted
from uldscale.data.faces3d.look import Look
from uldscale.data.faces3d.noise import field
from uldscale.data.faces3d.person import Person
from uldscale.data.faces3d.shape import Surface


def paint(p: Person, look: Look, surface: Surface, rng: Generator) -> Array:
    """(R, C, 3) sRGB albedo of the head."""
    rows, cols = surface.x.shape
    mottle = 1 + 0.03 * field(rng, (14, 18), rows, cols) + 0.011 * field(rng, (90, 110), rows, cols)
    colour = tinted(look.skin, mottle)
    face = surface.window(3.0, 13.2, -100, 100)
    patch, x, y = colour[face], surface.x[face], surface.y[face]
    _tone(p, look, patch, x, y)
    _freckles(look, patch, x, y, rng)
    _beard(p, look, patch, x, y, rng)
    _hollows(p, patch, surface, face)
    for side in (-1, 1):
        angles = (-66, -3) if side < 0 else (3, 66)
        window = surface.window(3.6, 7.4, *angles)
        _eye(p, look, side, colour[window], surface.x[window], surface.y[window])
        _brow(p, look, side, colour[window], surface.x[window], surface.y[window], rng)
    window = surface.window(7.4, 12.3, -45, 45)
    _mouth(p, look, colour[window], surface.x[window], surface.y[window])
    window = surface.window(6.4, 9.5, -25, 25)
    _nostrils(p, colour[window], surface.x[window], surface.y[window])
    return np.clip(colour, 0, 1)


def _mix(patch: Array, colour: Array, weight: Array) -> None:
    """Lays a colour over the patch in place."""
    patch += (colour - patch) * weight[..., None].astype(np.float32)


def _spot(x: Array, y: Array, cx: float, cy: float, wx: float, wy: float) -> Array:
    return np.exp(-(((x - cx) / wx) ** 2) - ((y - cy) / wy) ** 2)


def _tone(p: Person, look: Look, patch: Array, x: Array, y: Array) -> None:
    """Redder cheeks and nose, darker rings about the eyes."""
    red = _spot(np.abs(x), y, 0.4, -0.32, 0.2, 0.16) + 0.8 * _spot(x, y, 0, p.nose_y, 0.13, 0.1)
    _mix(patch, look.skin * np.array([1.0, 0.72, 0.7], np.float32), 0.2 + 0.4 * look.blush * red)
    _mix(patch, look.skin * np.float32(1.04), 0.35 * (1 - red))
    ring = _spot(np.abs(x), y, p.eye_x, p.eye_y - 0.03, 0.2, 0.13)
    _mix(patch, look.skin * np.array([0.62, 0.5, 0.5], np.float32), (0.3 + 0.3 * look.age) * ring)


def _freckles(look: Look, patch: Array, x: Array, y: Array, rng: Generator) -> None:
    """Freckles on nose and cheeks, one mole, lines on the forehead with age."""
    if look.freckles:
        grain = field(rng, (120, 130), *x.shape)
        where = _spot(np.abs(x), y, 0.25, -0.25, 0.32, 0.2)
        weight = look.freckles * where * smooth(0.4, grain - 1.2)
        _mix(patch, look.skin * np.array([0.6, 0.45, 0.35], np.float32), weight)
    cx, cy = float(rng.uniform(-0.6, 0.6)), float(rng.uniform(-0.9, 0.6))
    if rng.random() < 0.3:
        _mix(patch, look.skin * np.float32(0.3), np.minimum(1, 2 * _spot(x, y, cx, cy, 0.022, 0.022)))
    lines = np.maximum(0, np.sin(y * 62 + 2 * np.cos(4 * x))) ** 3 * _spot(x, y, 0, 0.48, 0.4, 0.14)
    _mix(patch, look.skin * np.float32(0.55), 0.6 * max(0.0, look.age - 0.5) * lines)


def _beard(p: Person, look: Look, patch: Array, x: Array, y: Array, rng: Generator) -> None:
    """Stubble, beard and moustache where they grow."""
    side = np.abs(x)
    cheek = p.mouth_y + 0.06 + 0.75 * np.maximum(side - 0.28, 0) ** 1.3
    clean = 1 - _spot(x, y, 0, p.mouth_y - 0.03, mouth_width(p) * 1.05, 0.14 + p.gape) ** 0.5 * 1.1
    lip = 0.9 * smooth(0.04, 1.15 * mouth_width(p) - side) * smooth(0.03, p.nose_y - 0.15 - y)
    lip = lip * smooth(0.03, y - p.mouth_y + 0.03)
    grain = field(rng, (130, 150), *x.shape)
    edge = 0.05 * grain
    area = smooth(0.06, cheek - y + edge) * np.clip(clean * 2, 0, 1)
    full = np.maximum(look.beard * area, look.moustache * lip)
    shade = look.brow * (1 + 0.35 * grain[..., None])
    _mix(patch, shade, np.clip(full * (0.86 + 0.14 * grain), 0, 0.97))
    _mix(patch, look.brow, np.clip(look.stubble * 0.5 * np.maximum(area, lip) * (0.8 + 0.4 * grain), 0, 0.6))


def _hollows(p: Person, patch: Array, surface: Surface, face: tuple[slice, slice]) -> None:
    """Darkens what lies deeper than its neighbourhood, as light from all sides would."""
    depth = surface.points[face][..., 2] - surface.z[face]
    cavity = np.zeros_like(depth)
    for reach in (5, 11):
        mean = depth.copy()
        mean[reach:-reach] = (depth[: -2 * reach] + depth[2 * reach :] + depth[reach:-reach]) / 3
        wide = mean.copy()
        wide[:, reach:-reach] = (mean[:, : -2 * reach] + mean[:, 2 * reach :] + mean[:, reach:-reach]) / 3
        cavity += np.maximum(wide - depth, 0)
    patch *= (1 - np.clip(4.0 * cavity, 0, 0.5))[..., None]
    under = smooth(1.2, surface.t[face[0]] - 12.6)[:, None, None]
    patch *= 1 - 0.45 * under


def _eye(p: Person, look: Look, side: int, patch: Array, x: Array, y: Array) -> None:
    """White, iris, pupil, glint, the lids' edges and the crease above."""
    u, v = eye_frame(p, side, x, y)
    upper, lower = lids(p, side, u)
    near = (np.abs(u) < 1.25).astype(np.float32)
    lid_shade = look.skin * np.array([0.5, 0.36, 0.4], np.float32)
    _mix(patch, lid_shade, near * look.shadow * smooth(0.03, v - upper) * smooth(0.06, upper + 0.09 - v))
    _mix(patch, lid_shade, near * 0.55 * np.exp(-(((v - upper - 0.045) / 0.014) ** 2)) * smooth(0.3, 1.1 - np.abs(u)))
    inside = smooth(0.008, np.minimum(upper - v, v - lower)) * (np.abs(u) < 1)
    shade = 0.62 + 0.33 * np.clip((upper - v) / 0.07, 0, 1)
    _mix(patch, shade[..., None] * np.array([1.0, 0.97, 0.95], np.float32), inside)
    dx, dy = u * p.eye_w * side - p.gaze[0], v - 0.012 - p.gaze[1]
    radius = np.sqrt(dx * dx + dy * dy)
    lit = (0.75 + 0.5 * smooth(0.05, -dy))[..., None]
    _mix(patch, look.iris * lit, inside * smooth(0.008, p.iris - radius))
    _mix(patch, look.iris * np.float32(0.3), inside * np.exp(-(((radius - p.iris) / 0.012) ** 2)) * 0.8)
    _mix(patch, np.full(3, 0.02, np.float32), inside * smooth(0.008, 0.45 * p.iris - radius))
    _mix(patch, np.ones(3, np.float32), inside * np.minimum(1, 1.6 * _spot(dx, dy, 0.025, 0.03, 0.017, 0.017)))
    _mix(patch, np.array([0.75, 0.42, 0.4], np.float32), 0.8 * inside * _spot(u, v, -0.95, 0, 0.16, 0.05))
    lash = smooth(0.014 + 0.008 * look.liner, 0.012 + 0.006 * look.liner - np.abs(v - upper))
    _mix(patch, look.brow * np.float32(0.3), lash * smooth(0.08, 1.06 - np.abs(u)))
    rim = 0.5 * np.exp(-(((v - lower) / 0.011) ** 2)) * smooth(0.08, 1.0 - np.abs(u))
    _mix(patch, look.skin * np.array([0.5, 0.33, 0.33], np.float32), rim)


def _brow(p: Person, look: Look, side: int, patch: Array, x: Array, y: Array, rng: Generator) -> None:
    u = brow_u(p, x * side)
    off = y - brow(p, side, u)
    thick = p.brow_thick * (1 - 0.3 * np.maximum(u, 0) ** 2) * smooth(0.12, 1.1 - np.abs(u))
    # The hairs lean outward: noise along a slanted direction.
    comb = np.sin(95 * (u - 5 * off) + 3 * np.sin(17 * u + float(rng.uniform(0, 6))))
    weight = smooth(0.022, thick - np.abs(off) + 0.006 * comb) * (np.abs(u) < 1.15)
    _mix(patch, look.brow * (0.9 + 0.18 * comb)[..., None], 0.92 * weight)


def _mouth(p: Person, look: Look, patch: Array, x: Array, y: Array) -> None:
    """Lips, the line between them, and teeth, tongue and dark when open."""
    s = x / mouth_width(p)
    top, upper, lower, low = lips(p, np.clip(s, -1, 1))
    end = smooth(0.04, 1.0 - np.abs(s))
    red = smooth(0.011, np.minimum(top - y, y - low)) * end
    _mix(patch, look.lips * np.where(y > (upper + lower) / 2, 0.86, 1.0)[..., None].astype(np.float32), 0.88 * red)
    gap = smooth(0.01, np.minimum(upper - y, y - lower)) * (np.abs(s) < 0.95)
    _mix(patch, np.array([0.16, 0.05, 0.05], np.float32), gap)
    _mix(patch, np.array([0.55, 0.25, 0.25], np.float32), gap * 0.8 * smooth(0.05, lower + 0.35 * p.gape - y))
    teeth = gap * smooth(0.012, y - upper + min(0.075, 0.55 * p.gape))
    _mix(patch, np.array([0.93, 0.9, 0.84], np.float32), 0.95 * teeth * smooth(0.15, 0.75 - np.abs(s)))
    line = np.exp(-(((y - upper) / 0.012) ** 2)) * smooth(0.06, 0.98 - np.abs(s))
    _mix(patch, look.lips * np.array([0.3, 0.18, 0.2], np.float32), 0.85 * line)
    corner = _spot(np.abs(s), y, 1.0, p.mouth_y + 0.05 * p.smile, 0.09, 0.022)
    _mix(patch, look.skin * np.array([0.4, 0.28, 0.28], np.float32), 0.6 * corner)


def _nostrils(p: Person, patch: Array, x: Array, y: Array) -> None:
    side = np.abs(x)
    hole = 1.3 * _spot(side, y, 0.52 * p.nose_w, p.nose_y - 0.088, 0.034, 0.02)
    dark = patch.mean(axis=(0, 1)) * np.array([0.2, 0.12, 0.12], np.float32)
    _mix(patch, dark, np.minimum(hole, 0.92))
    wing = _spot(side, y, 1.32 * p.nose_w, p.nose_y - 0.04, 0.02, 0.05)
    under = _spot(x, y, 0, p.nose_y - 0.13, 1.1 * p.nose_w, 0.025)
    _mix(patch, patch * np.array([0.62, 0.52, 0.52], np.float32), np.minimum(1, 0.5 * wing + 0.5 * under))
