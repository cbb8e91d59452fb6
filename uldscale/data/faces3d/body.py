"""Ears, neck and shoulders.

Ears turn with the head; `bust` follows it by a part of the turn only and is given in its own, body coordinates.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from uldscale.data.faces3d.grid import Array, join, smooth, tinted
from uldscale.data.faces3d.look import Look
from uldscale.data.faces3d.noise import field
from uldscale.data.faces3d.person import Person
from uldscale.data.faces3d.render import Mesh
from uldscale.data.faces3d.shape import skull

_RINGS, _SPOKES = 26, 72


def ears(p: Person, look: Look) -> list[Mesh]:
    """The two ears, in head coordinates."""
    return [_ear(p, look, side) for side in (-1, 1)]


def _ear(p: Person, look: Look, side: int) -> Mesh:
    """A shell: rings from the rim (row 0) to the canal, with helix, hollow and lobe as relief."""
    out = np.linspace(1, 0, _RINGS)[:, None]
    turn = np.linspace(0, 2 * np.pi, _SPOKES)[None, :]
    egg = 1 + 0.16 * np.sin(turn) - 0.12 * np.exp(-(((turn - 4.1) / 0.5) ** 2))
    along = 0.185 * p.ear * out * egg * np.cos(turn)  # backward
    up = 0.30 * p.ear * out * np.sin(turn) * (1 - 0.08 * np.cos(turn))
    helix = 0.045 * np.exp(-(((out - 0.88) / 0.11) ** 2)) * smooth(0.5, np.sin(turn) + 0.75 - 0.4 * np.cos(turn))
    fold = 0.035 * np.exp(-(((out - 0.55) / 0.12) ** 2)) * smooth(0.6, np.cos(turn) + 0.3)
    bowl = -0.06 * np.exp(-((out / 0.38) ** 2))
    lift = 0.012 + helix + fold + bowl - 0.03 * (out > 0.97)
    x0, y0, z0 = (float(c[0]) for c in skull(p, np.radians([93.0]), np.array([6.9])))
    flare = p.ear_flare * np.maximum(along + 0.12, 0)
    x, y, z = x0 - 0.03 + lift + flare, y0 + 0.05 + up - 0.12 * along, z0 - 0.06 - along
    points = join(side * x, y, z)
    tone = np.clip(1 - 6.0 * np.maximum(0.03 - helix - fold, 0) * (out < 0.8) + 1.2 * bowl * 3, 0.45, 1.05)
    colour = tinted(look.skin * np.array([1.0, 0.86, 0.84]), tone)
    return Mesh(points, colour, None, 0.04, two_sided=True)


def bust(p: Person, look: Look, rng: Generator) -> list[Mesh]:
    """Neck and shoulders, in body coordinates."""
    girth = float(rng.uniform(0.40, 0.52)) * p.width
    return [_neck(look, girth), _shoulders(look, girth, rng)]


def _neck(look: Look, girth: float) -> Mesh:
    y = np.linspace(-0.5, -1.9, 50)[:, None]
    turn = np.linspace(-np.pi, np.pi, 110)[None, :]
    wide = girth * (1 + 0.25 * smooth(0.4, -1.55 - y))
    cord = 0.02 * np.exp(-(((np.abs(turn) - 0.5 - 0.5 * (y + 1.6)) / 0.16) ** 2))
    x = (wide + cord) * np.sin(turn)
    z = -0.24 + 0.06 * (y + 1.2) + (wide * 0.98 + cord) * np.cos(turn)
    points = join(x, y, z)
    # The chin keeps the light off the upper neck.
    tone = (0.5 + 0.42 * smooth(0.35, -1.35 - y)) * np.ones_like(turn)
    return Mesh(points, tinted(look.skin, tone), None, 0.03)


def _shoulders(look: Look, girth: float, rng: Generator) -> Mesh:
    """A cloth from the collar down, coloured plain, striped or blotched."""
    rows, cols = 70, 150
    fall = np.linspace(0, 1, rows)[:, None]
    turn = np.linspace(-np.pi, np.pi, cols)[None, :]
    collar, broad = float(rng.uniform(-1.75, -1.5)), float(rng.uniform(1.5, 1.85))
    wide = np.interp(fall, [0, 0.06, 0.35, 0.65, 1], [girth * 1.12, girth * 1.25, 0.8 * broad, broad, 1.02 * broad])
    deep = np.interp(fall, [0, 0.06, 0.35, 1], [girth * 1.12, girth * 1.3, 0.62, 0.7])
    low = np.interp(fall, [0, 0.06, 0.35, 0.65, 1], [0.03, 0, -0.22, -0.5, -1.9])
    y = collar + low - 0.16 * smooth(0.9, np.cos(turn)) * np.exp(-fall * 6)
    x, z = wide * np.sin(turn), -0.28 + deep * np.cos(turn)
    points = join(x, y, z)
    stripe: Array = np.sin(fall * rng.uniform(20, 90) + turn * rng.uniform(-3, 3)) * float(rng.random() < 0.3)
    tone = 1 + 0.1 * field(rng, (14, 24), rows, cols) + 0.3 * np.sign(stripe)
    return Mesh(points, tinted(look.cloth, tone), None, 0.02)
