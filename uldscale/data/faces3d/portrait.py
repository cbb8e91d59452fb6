"""One picture of one face: draws the person, the pose and the scene from a seed and puts them together.

Laws: the same seed and arguments give the same bytes; the drawn numbers do not depend on the size, so the same seed
shows the same face at every size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from uldscale.data.faces3d import body, hair, look, person, scene, texture, wear
from uldscale.data.faces3d.grid import Array, join
from uldscale.data.faces3d.landmarks import landmarks
from uldscale.data.faces3d.render import Camera, Light, Mesh, draw, draw_light, rotation
from uldscale.data.faces3d.shape import head

_BUFFER = 256  # least side of the picture before it is scaled down
_TOLERANCE = 0.06  # head units a landmark may lie behind the nearest surface and still count as seen


@dataclass(frozen=True)
class Face:
    """A rendered face.

    image: (S, S, 3) uint8 RGB. landmarks: (68, 2) float32 x, y in pixels, iBUG order; the left edge of the image is
    x = 0, so pixel centres lie at integer + 0.5. visible: (68,) bool, False where the head itself or something in
    front of it hides the point, or it lies outside the image. yaw: degrees, > 0 with the nose to the image right.
    """

    image: NDArray[np.uint8]
    landmarks: NDArray[np.float32]
    visible: NDArray[np.bool_]
    yaw: float


def render(seed: int, *, size: int = 128, max_yaw: float = 90.0, occluders: bool = True) -> Face:
    """The face of this seed; size in pixels, yaw within -max_yaw..max_yaw degrees.

    With occluders, some faces wear glasses or a hat or have a bar or a hand before them.
    """
    # A stream of its own for each part: what one part draws does not move the others.
    identity, pose, light_rng, place, things, camera_rng = np.random.default_rng(seed).spawn(6)
    who, dressed = person.draw(identity), look.draw(identity)
    yaw, turn, body_turn = _pose(pose, max_yaw)
    parts = _meshes(identity, things, who, dressed, occluders=occluders)
    points = landmarks(who) @ turn.T
    frame, camera = _frame(pose, points, size)
    meshes = [_turned(m, body_turn if on_body else turn) for m, on_body in parts]
    image, depth = _expose(meshes, camera, draw_light(light_rng), scene.background(place, frame), frame)
    hidden = np.zeros((frame, frame), bool)
    if occluders and things.random() < 0.16:
        colour, opacity = scene.occluder(things, dressed.skin, frame)
        image = image + (colour - image) * opacity[..., None]
        hidden = opacity > 0.5
    screen = camera.project(points)
    visible = _visible(screen, points[:, 2], depth, hidden)
    picture = scene.develop(camera_rng, image, size)
    return Face(picture, (screen * (size / frame)).astype(np.float32), visible, yaw)


def _pose(rng: Generator, max_yaw: float) -> tuple[float, Array, Array]:
    """Yaw in degrees, the head's and the body's rotation. Half of the yaws are within 35 degrees."""
    near = min(35.0, max_yaw)
    size = rng.uniform(0, near) if rng.random() < 0.5 else rng.uniform(0.6 * near, max_yaw)
    yaw = float(size if rng.random() < 0.5 else -size)
    pitch, roll = (float(np.clip(rng.standard_normal(), -2, 2)) for _ in range(2))
    follow = rng.uniform(0.2, 0.9)
    return yaw, rotation(yaw, 9 * pitch, 8 * roll), rotation(follow * yaw, 2 * pitch, 2 * roll)


def _meshes(
    rng: Generator, things: Generator, who: person.Person, dressed: look.Look, *, occluders: bool
) -> list[tuple[Mesh, bool]]:
    """The meshes of a person, each with whether it belongs to the body rather than to the head."""
    surface = head(who)
    style = hair.draw_style(rng)
    on_head = [Mesh(surface.points, texture.paint(who, dressed, surface, rng), None, dressed.shine)]
    on_head += body.ears(who, dressed)
    covered = occluders and things.random() < 0.1
    if covered:
        on_head += wear.hat(surface, things)
    if style is not None:
        grown = hair.grow(style, dressed, surface, rng)
        on_head += grown[1:2] if covered else grown
    if occluders and things.random() < 0.16:
        on_head += wear.glasses(who, things)
    return [(m, False) for m in on_head] + [(m, True) for m in body.bust(who, dressed, rng)]


def _turned(mesh: Mesh, turn: Array) -> Mesh:
    x, y, z = np.moveaxis(mesh.points, -1, 0)
    return Mesh(join(*(a * x + b * y + c * z for a, b, c in turn)), mesh.colour, mesh.keep, mesh.shine, mesh.two_sided)


def _frame(rng: Generator, points: Array, size: int) -> tuple[int, Camera]:
    """The side of the buffer and a camera that crops it like a face detector: about 1.5 times the landmarks' box."""
    side = size * -(-_BUFFER // size)
    distance = float(rng.uniform(5, 13))
    flat = Camera(distance, 1.0, (0.0, 0.0)).project(points)
    low, high = flat.min(axis=0), flat.max(axis=0)
    extent = float((high - low).max()) * float(rng.uniform(1.4, 1.75))
    shift = np.clip(0.03 * rng.standard_normal(2), -0.06, 0.06) + np.array([0, 0.05])
    zoom = side / extent
    middle = side * (0.5 + shift) - zoom * (low + high) / 2
    return side, Camera(distance, zoom, (float(middle[0]), float(middle[1])))


def _expose(meshes: list[Mesh], camera: Camera, light: Light, back: Array, frame: int) -> tuple[Array, Array]:
    """The scene's linear image and its depth."""
    image, depth = draw(meshes, camera, light, frame)
    return np.where(np.isfinite(depth)[..., None], image, back), depth


def _visible(screen: Array, z: Array, depth: Array, hidden: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which landmarks are inside the picture, not behind a nearer surface and not behind an occluder."""
    side = len(depth)
    column, row = np.floor(screen).astype(np.int64).T
    inside = (column >= 0) & (row >= 0) & (column < side) & (row < side)
    column, row = np.clip(column, 1, side - 2), np.clip(row, 1, side - 2)
    around = np.stack([depth[row + dy, column + dx] for dy in (-1, 0, 1) for dx in (-1, 0, 1)])
    # The farthest of nine neighbours: on the rim of a cheek or a nose the next pixel is what counts.
    return np.asarray(inside & (around.min(axis=0) < z + _TOLERANCE) & ~hidden[row, column])
