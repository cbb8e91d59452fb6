"""What is behind and in front of the head, and what the camera does to the picture.

Everything is given in shares of the picture's side, so a scene looks alike at every size. Images are linear RGB until
`develop`.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from uldscale.data.faces3d.grid import Array, smooth
from uldscale.data.faces3d.noise import enlarge, field

_BACK = 72


def background(rng: Generator, size: int) -> Array:
    """(size, size, 3) linear: a gradient, blurred clutter and grain."""
    y, x = np.meshgrid(*[(np.arange(_BACK) + 0.5) / _BACK] * 2, indexing="ij")
    vivid = rng.uniform(0.1, 1.0)
    first, second = _paint(rng, vivid), _paint(rng, vivid)
    angle = rng.uniform(0, 2 * np.pi)
    share = np.clip(0.5 + (x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle), 0, 1)[..., None]
    image = first * (1 - share) + second * share
    for _ in range(int(rng.integers(0, 12))):
        weight = _shape(rng, x, y)[..., None] * rng.uniform(0.3, 1.0)
        image = image * (1 - weight) + _paint(rng, vivid) * weight
    if rng.random() < 0.25:
        waves = np.sin(x * rng.uniform(-40, 40) + y * rng.uniform(-40, 40))[..., None]
        image = image * (1 + rng.uniform(0, 0.3) * waves)
    grain = field(rng, (48, 48), _BACK, _BACK)[..., None] * rng.uniform(0, 0.08)
    return enlarge((np.clip(image + grain, 0, 1) ** 2).astype(np.float32), size, size)


def _paint(rng: Generator, vivid: float) -> Array:
    """A random colour, greyer where vivid is small."""
    return np.asarray(rng.random() * (1 - vivid) + rng.random(3) * vivid)


def _shape(rng: Generator, x: Array, y: Array) -> Array:
    """The soft mask of a turned ellipse or box."""
    u, v = _turned(rng, x, y, rng.uniform(-0.1, 1.1), rng.uniform(-0.1, 1.1))
    wide, tall, soft = rng.uniform(0.04, 0.4), rng.uniform(0.04, 0.4), rng.uniform(0.02, 0.2)
    if rng.random() < 0.5:
        return smooth(soft, 1 - np.hypot(u / wide, v / tall))
    return smooth(soft, np.minimum(1 - np.abs(u) / wide, 1 - np.abs(v) / tall))


def _turned(rng: Generator, x: Array, y: Array, cx: float, cy: float) -> tuple[Array, Array]:
    angle = rng.uniform(0, np.pi)
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    return (x - cx) * cos + (y - cy) * sin, (y - cy) * cos - (x - cx) * sin


def occluder(rng: Generator, skin: Array, size: int) -> tuple[Array, Array]:
    """Something in front of the head: linear colour (size, size, 3) and opacity (size, size)."""
    y, x = np.meshgrid(*[((np.arange(size) + 0.5) / size).astype(np.float32)] * 2, indexing="ij")
    if rng.random() < 0.5:
        return _hand(rng, x, y, skin)
    u, v = _turned(rng, x, y, rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.8))
    half = rng.uniform(0.03, 0.09)
    mask = smooth(0.006, half - np.abs(v))
    tone = 0.55 + 0.45 * np.cos(v / half) + 0.06 * np.sin(u * rng.uniform(20, 120))
    return (rng.random(3, dtype=np.float32) * tone[..., None]) ** 2, mask


def _hand(rng: Generator, x: Array, y: Array, skin: Array) -> tuple[Array, Array]:
    """A palm and four fingers that reach in from below or from a side."""
    aim = rng.uniform(-1.0, 1.0)  # radians from upward
    cos, sin = float(np.cos(aim)), float(np.sin(aim))
    palm_x, palm_y = 0.5 - 0.45 * sin + rng.uniform(-0.15, 0.15), 0.78 + rng.uniform(0.0, 0.2)
    u, v = (x - palm_x) * cos + (y - palm_y) * sin, (x - palm_x) * sin - (y - palm_y) * cos
    inside = [1 - np.hypot(u / 0.13, v / 0.14), 1 - np.hypot(u / 0.1, np.maximum(-v, 0) / 0.9) - 9 * (v > 0)]
    for finger in range(4):
        root, spread = (finger - 1.5) * 0.062, (finger - 1.5) * rng.uniform(0.05, 0.2)
        length = rng.uniform(0.2, 0.28) * (1 - 0.12 * abs(finger - 1.5))
        along = np.clip(v - 0.06, 0, length)
        inside.append(1 - np.hypot(u - root - spread * along, v - 0.06 - along) / 0.03)
    best = np.max(inside, axis=0)
    tone = 0.55 + 0.5 * np.sqrt(np.clip(best, 0, 1))
    return np.clip(skin * tone[..., None], 0, 1) ** 2, smooth(0.08, best)


def develop(rng: Generator, image: Array, size: int) -> NDArray[np.uint8]:
    """Linear RGB (n, n, 3), n a multiple of size, to the camera's (size, size, 3) picture: blur, gain, noise."""
    n = len(image) // size
    image = image.reshape(size, n, size, n, 3).mean(axis=(1, 3))
    image = _blur(image, float(max(0.0, rng.uniform(-0.5, 0.9))) * size / 128)
    gain = float(np.exp(0.22 * rng.standard_normal())) * (1 + 0.05 * rng.standard_normal(3))
    image = np.sqrt(np.clip(image * gain.astype(np.float32), 0, 1))
    image = 0.5 + (image - 0.5) * float(rng.uniform(0.8, 1.12)) + float(rng.uniform(-0.05, 0.05))
    noise = float(rng.uniform(0, 0.028))
    image = image + noise * rng.standard_normal(image.shape, dtype=np.float32)
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def _blur(image: Array, sigma: float) -> Array:
    """A separable Gaussian of sigma pixels; the border is repeated."""
    reach = int(np.ceil(2.5 * sigma))
    if reach == 0:
        return image
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    for axis in (0, 1):
        pad = np.pad(image, [(reach, reach) if a == axis else (0, 0) for a in range(3)], mode="edge")
        image = sum(w * np.take(pad, range(i, i + image.shape[axis]), axis) for i, w in enumerate(weights))
    return image
