"""Glasses and hats: things worn in front of or over the head, as meshes in head coordinates.

Law: a worn thing is in the z-buffer, so it hides landmarks by the same rule as the head itself.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from uldscale.data.faces3d.grid import Array, join, smooth, tinted, unit
from uldscale.data.faces3d.noise import field
from uldscale.data.faces3d.person import Person
from uldscale.data.faces3d.render import Mesh
from uldscale.data.faces3d.shape import CENTRE_Z, Surface, skull


def glasses(p: Person, rng: Generator) -> list[Mesh]:
    """Frames with thin rims; one pair in five has dark lenses."""
    colour = (rng.random(3, dtype=np.float32) ** 2 * 0.6).astype(np.float32)
    wide, tall = float(rng.uniform(0.19, 0.24)), float(rng.uniform(0.13, 0.2))
    squareness, thick = float(rng.uniform(2, 4)), float(rng.uniform(0.009, 0.02))
    dark = rng.random() < 0.2
    turn = np.linspace(0, 2 * np.pi, 90)
    sin, cos = np.sin(turn), np.cos(turn)
    r = (np.abs(sin) ** squareness + np.abs(cos) ** squareness) ** (-1 / squareness)
    meshes = []
    for side in (-1, 1):
        x, y = side * (p.eye_x + wide * r * cos), p.eye_y - 0.01 + tall * r * sin
        rim = np.stack([x, y, 0.86 - 0.35 * (np.abs(x) - 0.1) ** 2], axis=-1)
        meshes.append(_tube(rim, thick, colour))
        meshes.append(_tube(_temple(p, side, wide), thick, colour))
        if dark:
            meshes.append(_lens(rim, colour))
    ends = np.linspace(-1, 1, 20) * (p.eye_x - 0.96 * wide)
    bridge = np.stack([ends, np.full(20, p.eye_y + 0.03), np.full(20, 0.9)], axis=-1)
    return [*meshes, _tube(bridge, thick, colour)]


def _temple(p: Person, side: int, wide: float) -> Array:
    """The bar from the rim's outer end to the ear."""
    far = float(np.abs(skull(p, np.radians([90.0]), np.array([6.0]))[0][0])) + 0.03
    start = p.eye_x + wide
    way = np.linspace(0, 1, 60)
    x = start + (far - start) * np.minimum(1, 2.2 * way)
    return np.stack([side * x, np.full(60, p.eye_y + 0.05), 0.76 - 0.9 * way], axis=-1)


def _tube(line: Array, radius: float, colour: Array) -> Mesh:
    """A tube of the given radius about a line (N, 3)."""
    turn = np.linspace(0, 2 * np.pi, 9)
    ahead = np.gradient(line, axis=0)
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True) + 1e-9
    one = np.cross(ahead, np.array([0.1, 0.2, 1.0]))
    one /= np.linalg.norm(one, axis=1, keepdims=True) + 1e-9
    two = np.cross(ahead, one)
    ring = np.cos(turn)[None, :, None] * one[:, None] + np.sin(turn)[None, :, None] * two[:, None]
    points = (line[:, None] + radius * ring).astype(np.float32)
    return Mesh(points, np.broadcast_to(colour, points.shape), None, 0.3, two_sided=True)


def _lens(rim: Array, colour: Array) -> Mesh:
    centre = rim.mean(axis=0)
    points = centre + (rim - centre) * np.linspace(1, 0, 22)[:, None, None]
    tint = np.broadcast_to(0.5 * colour + 0.03, points.shape).astype(np.float32)
    return Mesh(points.astype(np.float32), tint, None, 0.35, two_sided=True)


def hat(surface: Surface, rng: Generator) -> list[Mesh]:
    """A cap over the skull: a knitted one, or one with a peak or a brim."""
    rows = int(np.searchsorted(surface.t, 7.0))
    x, y, z, theta = surface.x[:rows], surface.y[:rows], surface.z[:rows], surface.theta
    rim = float(rng.uniform(0.42, 0.6)) - 0.3 * (1 - np.cos(theta)) / 2
    height, bulk = float(rng.uniform(0.0, 0.2)), float(rng.uniform(0.06, 0.13))
    colour = rng.random(3, dtype=np.float32) * 0.85 + 0.05
    points = join(x, y + height * smooth(0.4, y - 0.8), z) + bulk * unit(x, 0.6 * (y - 0.3), z - CENTRE_Z)
    knit = np.sin(theta * 60)[None, :] * float(rng.random() < 0.5)
    tone = 1 + 0.12 * knit + 0.08 * field(rng, (20, 30), rows, len(theta)) - 0.3 * smooth(0.01, rim + 0.09 - y)
    cap = Mesh(points, tinted(colour, tone), y > rim, 0.02)
    kind = rng.random()
    if kind < 0.35:
        return [cap]
    return [cap, _brim(points, y, rim, colour, float(rng.uniform(0.25, 0.5)), peak=kind < 0.7)]


def _brim(points: Array, y: Array, rim: Array, colour: Array, reach: float, *, peak: bool) -> Mesh:
    """A sheet that grows outward from the cap's rim: all round, or a peak at the front."""
    cols = points.shape[1]
    row = np.argmin(np.abs(y - rim), axis=0)
    start = points[row, np.arange(cols)]
    out = start * np.array([1, 0, 1]) - np.array([0, 0, CENTRE_Z])
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    length = reach * (smooth(0.4, out[:, 2] - 0.35) if peak else np.full(cols, 0.8))
    way = np.linspace(0, 1, 26)[:, None, None]
    sheet = start + way * length[:, None] * (out + np.array([0, -0.12, 0.12 * peak]))
    tint = np.broadcast_to(colour * np.float32(0.8), sheet.shape)
    return Mesh(sheet.astype(np.float32), tint, np.broadcast_to(length > 0.02, sheet.shape[:2]), 0.02, two_sided=True)
