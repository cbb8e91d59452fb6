"""Who is in the picture: the numbers of one face, its identity and its expression.

Units are head units: the chin of the neutral head is near y = -1.15, the crown near 1.15, x points to the right of the
image when the head looks at the camera, z to the camera. Laws: `Person()` is neutral and symmetric about x = 0; `draw`
takes its numbers from the given generator only.
"""

from __future__ import annotations

from dataclasses import dataclass

from numpy.random import Generator

Pair = tuple[float, float]


@dataclass(frozen=True)
class Person:
    """Shape of one face; a pair is (image left, image right) when the head looks at the camera."""

    width: float = 1.0
    depth: float = 1.0
    crown: float = 1.0
    jaw: float = 1.0
    chin_drop: float = 0.0
    chin_out: float = 0.0
    chin_round: float = 2.05
    cheek: float = 0.05
    hollow: float = 0.03
    eye_x: float = 0.315
    eye_y: float = 0.0
    eye_w: float = 0.155
    eye_open: Pair = (0.072, 0.072)
    eye_tilt: float = 0.015
    socket: float = 0.10
    gaze: Pair = (0.0, 0.0)
    iris: float = 0.072
    brow_y: float = 0.185
    brow_w: float = 0.19
    brow_arch: float = 0.04
    brow_tilt: float = 0.0
    brow_thick: float = 0.032
    brow_raise: Pair = (0.0, 0.0)
    ridge: float = 0.05
    nose_y: float = -0.36
    nose_out: float = 0.25
    nose_w: float = 0.125
    bridge: float = 0.06
    hook: float = 0.0
    tip: float = 0.05
    mouth_y: float = -0.665
    mouth_w: float = 0.26
    lip_up: float = 0.06
    lip_low: float = 0.08
    lip_out: float = 0.055
    smile: float = 0.0
    gape: float = 0.0
    ear: float = 1.0
    ear_flare: float = 0.35


def draw(rng: Generator) -> Person:
    """A random person with a random expression."""
    return Person(**_skull(rng), **_eyes(rng), **_brows(rng), **_nose(rng), **_mouth(rng))  # type: ignore[arg-type]


def _around(rng: Generator, mean: float, spread: float) -> float:
    """A normal number cut at two spreads, so that no face falls apart."""
    return mean + spread * float(min(2.0, max(-2.0, rng.standard_normal())))


def _between(rng: Generator, low: float, high: float) -> float:
    return low + (high - low) * float(rng.random())


def _skull(rng: Generator) -> dict[str, float]:
    return {
        "width": _around(rng, 1.0, 0.05),
        "depth": _around(rng, 1.0, 0.04),
        "crown": _around(rng, 1.0, 0.04),
        "jaw": _around(rng, 0.97, 0.07),
        "chin_drop": _around(rng, 0.0, 0.05),
        "chin_out": _around(rng, 0.0, 0.035),
        "chin_round": _around(rng, 2.05, 0.13),
        "cheek": _between(rng, 0.02, 0.09),
        "hollow": _between(rng, -0.03, 0.07),
        "ear": _around(rng, 1.0, 0.09),
        "ear_flare": _between(rng, 0.15, 0.6),
    }


def _eyes(rng: Generator) -> dict[str, float | Pair]:
    height = _around(rng, 0.076, 0.009)
    mood = _between(rng, 0.75, 1.2) if rng.random() < 0.9 else _between(rng, 0.1, 0.6)
    wink = _between(rng, 0.1, 1.0) if rng.random() < 0.06 else 1.0
    left, right = (wink, 1.0) if rng.random() < 0.5 else (1.0, wink)
    return {
        "eye_x": _around(rng, 0.315, 0.015),
        "eye_y": _around(rng, 0.0, 0.02),
        "eye_w": _around(rng, 0.155, 0.008),
        "eye_open": (height * mood * left, height * mood * right),
        "eye_tilt": _around(rng, 0.012, 0.014),
        "socket": _between(rng, 0.06, 0.13),
        "gaze": (_around(rng, 0.0, 0.03), _around(rng, 0.0, 0.012)),
        "iris": _around(rng, 0.072, 0.004),
    }


def _brows(rng: Generator) -> dict[str, float | Pair]:
    lift = _around(rng, 0.0, 0.025)
    skew = _around(rng, 0.0, 0.012)
    return {
        "brow_y": _around(rng, 0.185, 0.015),
        "brow_w": _around(rng, 0.19, 0.012),
        "brow_arch": _between(rng, 0.01, 0.07),
        "brow_tilt": _around(rng, 0.0, 0.022),
        "brow_thick": _between(rng, 0.016, 0.046),
        "brow_raise": (lift + skew, lift - skew),
        "ridge": _between(rng, 0.01, 0.08),
    }


def _nose(rng: Generator) -> dict[str, float]:
    return {
        "nose_y": _around(rng, -0.36, 0.03),
        "nose_out": _around(rng, 0.25, 0.035),
        "nose_w": _around(rng, 0.125, 0.016),
        "bridge": _around(rng, 0.06, 0.02),
        "hook": _around(rng, 0.0, 0.025),
        "tip": _between(rng, 0.02, 0.08),
    }


def _mouth(rng: Generator) -> dict[str, float]:
    gape = _between(rng, 0.03, 0.26) if rng.random() < 0.3 else 0.0
    return {
        "mouth_y": _around(rng, -0.665, 0.02),
        "mouth_w": _around(rng, 0.26, 0.025),
        "lip_up": _between(rng, 0.035, 0.085),
        "lip_low": _between(rng, 0.05, 0.105),
        "lip_out": _between(rng, 0.035, 0.075),
        "smile": _around(rng, 0.25, 0.4),
        "gape": gape,
    }
