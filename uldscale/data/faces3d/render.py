"""From meshes to pixels: pose, camera, light and a z-buffer of points.

A mesh is a grid of points, rows downward and columns from image left to image right as seen from outside. The
rasteriser throws every grid point, and extra points in cells that the view stretches, on four pixels; the nearest
point wins. Law: the picture depends on the meshes, not on their order, but for exact ties.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from uldscale.data.faces3d.grid import Array, join, unit

_DEPTH = 1 << 22  # depth steps a head unit in the packed key
_MAX_SPLIT = 12
_GAP = 1.6  # pixels between points that four-pixel points still close


@dataclass(frozen=True)
class Mesh:
    """points and sRGB colour (R, C, 3); keep (R, C) says which points exist; shine is the strength of the highlight."""

    points: Array
    colour: Array
    keep: NDArray[np.bool_] | None = None
    shine: float = 0.05
    two_sided: bool = False


@dataclass(frozen=True)
class Camera:
    """A perspective camera on the z axis; pixels = centre + zoom * (x, -y) / (1 - z / distance)."""

    distance: float
    zoom: float
    centre: tuple[float, float]

    def project(self, points: Array) -> Array:
        """(..., 3) -> (..., 2) in pixels, x to the right and y down."""
        scale = self.zoom / (1 - points[..., 2] / self.distance)
        return join(self.centre[0] + points[..., 0] * scale, self.centre[1] - points[..., 1] * scale)


@dataclass(frozen=True)
class Light:
    """key and fill: unit vectors to the lights; colours are linear RGB (3,)."""

    key: Array
    key_colour: Array
    fill: Array
    fill_colour: Array
    sky: Array
    ground: Array


def rotation(yaw: float, pitch: float, roll: float) -> Array:
    """(3, 3) float32 for degrees; positive yaw turns the nose to the image right, pitch up, roll clockwise."""
    (cy, cp, cr), (sy, sp, sr) = np.cos(np.radians((yaw, pitch, roll))), np.sin(np.radians((yaw, pitch, roll)))
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    nod = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    lean = np.array([[cr, sr, 0], [-sr, cr, 0], [0, 0, 1]])
    return np.asarray(lean @ nod @ turn, dtype=np.float32)


def draw_light(rng: Generator) -> Light:
    """A key light from the front half, a weak fill and an ambient sky."""
    azimuth, height = np.radians(rng.uniform(-75, 75)), np.radians(rng.uniform(-15, 60))
    key = np.array([np.sin(azimuth) * np.cos(height), np.sin(height), np.cos(azimuth) * np.cos(height)], np.float32)
    fill = np.array([-np.sign(key[0]) * 0.8, 0.1, 0.6], np.float32)
    warm = 1 + 0.12 * rng.standard_normal() * np.array([1, 0.1, -1])
    ambient = rng.uniform(0.18, 0.5)
    strength = (1.05 - ambient) * rng.uniform(0.9, 1.3)
    cold = 1 + 0.1 * rng.standard_normal() * np.array([1, 0.0, -1])
    sky, ground = ambient * cold, ambient * rng.uniform(0.35, 0.8) * warm
    fill_colour = rng.uniform(0.0, 0.25) * (0.6 + 0.8 * rng.random(3))
    colours = [c.astype(np.float32) for c in (strength * warm, fill_colour, sky, ground)]
    return Light(key, colours[0], fill / np.linalg.norm(fill), colours[1], colours[2], colours[3])


def normals(points: Array) -> Array:
    """(R, C, 3) unit normals of a grid mesh, outward."""
    (ax, ay, az), (bx, by, bz) = (_slope(np.moveaxis(points, -1, 0), axis) for axis in (1, 2))
    return unit(ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx)


def _slope(planes: Array, axis: int) -> Array:
    """Central differences of (3, R, C) along an axis, one-sided at its ends."""
    moved = np.swapaxes(planes, 1, axis)
    slope = np.empty(moved.shape, np.float32)
    slope[:, 1:-1] = moved[:, 2:] - moved[:, :-2]
    slope[:, 0], slope[:, -1] = moved[:, 1] - moved[:, 0], moved[:, -1] - moved[:, -2]
    return np.swapaxes(slope, 1, axis)


def shade(colour: Array, normal: Array, light: Light, shine: float) -> Array:
    """Linear RGB of points with sRGB colour (N, 3) and normal (N, 3): wrapped Lambert, sky and a soft highlight."""
    half = light.key + np.array([0, 0, 1], np.float32)
    to_key, to_fill, to_half = (normal @ v for v in (light.key, light.fill, half / np.linalg.norm(half)))
    up = 0.5 + 0.5 * normal[:, 1]
    weights = np.stack([np.maximum((to_key + 0.18) / 1.18, 0), np.maximum(to_fill, 0), up, 1 - up], axis=-1)
    got = weights @ np.stack([light.key_colour, light.fill_colour, light.sky, light.ground])
    gloss = np.maximum(to_half, 0) ** 16
    return np.asarray(colour * colour * got + (shine * gloss)[:, None] * light.key_colour)


def draw(meshes: list[Mesh], camera: Camera, light: Light, size: int) -> tuple[Array, Array]:
    """Linear RGB (size, size, 3) and depth (size, size), -inf where nothing is."""
    found = np.concatenate([part for mesh in meshes for part in _points(mesh, camera, light, size)])
    # One integer a point, depth above index: the maximum a pixel keeps is the nearest point, the same on every machine.
    key = (((found[:, 2] + 64) * _DEPTH).astype(np.int64) << 28) | np.arange(len(found))
    corner = np.floor(found[:, :2] + 0.5).astype(np.int64)  # the frame has a border of one pixel
    width = size + 2
    best = np.full(width * width, -1, np.int64)
    at = corner[:, 1] * width + corner[:, 0]
    for step in (0, 1, width, width + 1):
        np.maximum.at(best, at + step, key)
    best = best.reshape(width, width)[1:-1, 1:-1]
    hit, index = best >= 0, best & ((1 << 28) - 1)
    image, depth = np.zeros((size, size, 3), np.float32), np.full((size, size), -np.inf, np.float32)
    image[hit], depth[hit] = found[index[hit], 3:], found[index[hit], 2]
    return image, depth


def _points(mesh: Mesh, camera: Camera, light: Light, size: int) -> list[Array]:
    """Points of the mesh that face the camera inside the frame: (N, 6) of x, y in pixels, depth, linear colour."""
    normal = normals(mesh.points)
    nx, ny, nz = np.moveaxis(normal, -1, 0)
    x, y, z = np.moveaxis(mesh.points, -1, 0)
    facing = nz * (camera.distance - z) - nx * x - ny * y
    if mesh.two_sided:
        normal = np.where(facing[..., None] < 0, -normal, normal)
    screen = camera.project(mesh.points)
    seen = _within(screen, size, 12.0) & (facing > (-np.inf if mesh.two_sided else -0.1))
    if mesh.keep is not None:
        seen &= mesh.keep
    fields = np.zeros((*seen.shape, 6), np.float32)
    fields[..., :2], fields[..., 2] = screen, z
    fields[seen, 3:] = shade(mesh.colour[seen], normal[seen], light, mesh.shine)
    found = [fields[seen], _between(fields, seen)]
    return [part[_within(part[:, :2], size, 0.49)] for part in found]


def _within(screen: Array, size: int, margin: float) -> NDArray[np.bool_]:
    """Which (..., 2) pixel positions lie in the frame widened by a margin."""
    x, y = screen[..., 0], screen[..., 1]
    return np.asarray((x > -margin) & (x < size + margin) & (y > -margin) & (y < size + margin))


def _between(fields: Array, seen: NDArray[np.bool_]) -> Array:
    """(N, 6) points inside the cells that are too wide on the screen for their corners to close, bilinearly."""
    whole = seen[:-1, :-1] & seen[:-1, 1:] & seen[1:, :-1] & seen[1:, 1:]
    x, y = fields[..., 0], fields[..., 1]
    wide = np.maximum(np.abs(x[:, 1:] - x[:, :-1]), np.abs(y[:, 1:] - y[:, :-1]))
    tall = np.maximum(np.abs(x[1:] - x[:-1]), np.abs(y[1:] - y[:-1]))
    across, along = np.maximum(wide[:-1], wide[1:]), np.maximum(tall[:, :-1], tall[:, 1:])
    row, col = np.nonzero(whole & (np.maximum(across, along) > _GAP))
    nu, nv = (np.clip(np.ceil(a[row, col] / _GAP), 1, _MAX_SPLIT).astype(np.int64) for a in (across, along))
    count = nu * nv
    cell = np.repeat(np.arange(len(row)), count)
    number = np.arange(len(cell)) - np.repeat(np.cumsum(count) - count, count)
    u = (((number % nu[cell]) + 0.5) / nu[cell]).astype(np.float32)[:, None]
    v = (((number // nu[cell]) + 0.5) / nv[cell]).astype(np.float32)[:, None]
    flat, cols = fields.reshape(-1, fields.shape[-1]), fields.shape[1]
    a = (row * cols + col)[cell]
    top, low = flat[a] * (1 - u) + flat[a + 1] * u, flat[a + cols] * (1 - u) + flat[a + cols + 1] * u
    return np.asarray(top * (1 - v) + low * v)
