"""The colours of a person: skin, hair, eyes, lips and what grows or is painted on the skin.

Colours are sRGB in 0..1, (3,) float32. Law: every colour is drawn from the given generator only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from uldscale.data.faces3d.grid import Array

_SKIN = np.array([[0.97, 0.83, 0.75], [0.92, 0.73, 0.61], [0.82, 0.62, 0.48], [0.64, 0.45, 0.33], [0.40, 0.27, 0.20]])
_HAIR = np.array(
    [
        [0.07, 0.06, 0.06],
        [0.2, 0.13, 0.09],
        [0.38, 0.25, 0.15],
        [0.78, 0.62, 0.36],
        [0.58, 0.25, 0.12],
        [0.7, 0.69, 0.68],
    ]
)
_IRIS = np.array([[0.25, 0.14, 0.07], [0.12, 0.08, 0.06], [0.3, 0.45, 0.6], [0.3, 0.42, 0.25], [0.45, 0.4, 0.3]])


@dataclass(frozen=True)
class Look:
    """Colours (3,) and amounts in 0..1."""

    skin: Array
    hair: Array
    brow: Array
    iris: Array
    lips: Array
    cloth: Array
    blush: float
    freckles: float
    stubble: float
    beard: float
    moustache: float
    shadow: float
    liner: float
    shine: float
    age: float


def draw(rng: Generator) -> Look:
    """A random look."""
    skin = _blend(rng, _SKIN) + _tint(rng, 0.02)
    hair = _blend(rng, _HAIR, mix=0.35)
    if rng.random() < 0.07:
        hair = rng.random(3, dtype=np.float32) * 0.8
    rouge = rng.random() < 0.3
    red = np.array([0.62, 0.12, 0.16]) + _tint(rng, 0.1)
    lips = skin * np.array([0.86, 0.64, 0.64]) if not rouge else 0.35 * skin + 0.65 * red
    grown = rng.random() < 0.3
    return Look(
        skin=_colour(skin),
        hair=_colour(hair),
        brow=_colour(0.55 * hair + 0.15 * skin * (0.2 + rng.random())),
        iris=_colour(_blend(rng, _IRIS) + _tint(rng, 0.03)),
        lips=_colour(lips),
        cloth=rng.random(3, dtype=np.float32) * 0.85 + 0.05,
        blush=float(rng.random()),
        freckles=float(max(0.0, rng.random() * 3 - 2)),
        stubble=float(max(0.0, rng.random() * 2 - 1)),
        beard=float(grown and rng.random() < 0.6) * float(0.5 + 0.5 * rng.random()),
        moustache=float(grown) * float(rng.random() > 0.3),
        shadow=float(max(0.0, rng.random() * 2.5 - 1.5)),
        liner=float(rng.random()),
        shine=float(0.04 + 0.16 * rng.random()),
        age=float(rng.random()),
    )


def _blend(rng: Generator, colours: Array, mix: float = 1.0) -> Array:
    """A colour between two of the list."""
    a, b = colours[rng.integers(len(colours))], colours[rng.integers(len(colours))]
    share = mix * float(rng.random())
    return np.asarray(a * (1 - share) + b * share)


def _tint(rng: Generator, spread: float) -> Array:
    return np.asarray(spread * rng.standard_normal(3))


def _colour(c: Array) -> Array:
    return np.clip(c, 0.02, 0.98).astype(np.float32)
