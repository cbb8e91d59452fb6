"""The laws of the made faces: what a seed fixes, where the landmarks lie and what yaw and visibility mean."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from uldscale.data.faces3d import Face, render
from uldscale.data.faces3d.landmarks import COUNT, MIRROR, landmarks
from uldscale.data.faces3d.person import Person, draw
from uldscale.data.faces3d.render import Camera, Light, Mesh, rotation
from uldscale.data.faces3d.render import draw as rasterise
from uldscale.data.faces3d.shape import head, place

SEEDS = range(48)
IMAGE_LEFT = [*range(8), *range(17, 22), 31, 32, *range(36, 42), 48, 49, 50, 58, 59]
NOSE_TIP = 30


@cache
def face(seed: int) -> Face:
    return render(seed, size=64, occluders=False)


def faces(low: float, high: float) -> list[Face]:
    """The seeds' faces with low <= yaw <= high."""
    found = [face(seed) for seed in SEEDS if low <= face(seed).yaw <= high]
    assert len(found) >= 2
    return found


@pytest.mark.parametrize("occluders", [True, False])
def test_the_same_seed_gives_the_same_bytes(occluders: bool) -> None:
    one, two = (render(3, size=64, occluders=occluders) for _ in range(2))
    assert one.image.tobytes() == two.image.tobytes()
    assert one.landmarks.tobytes() == two.landmarks.tobytes()
    assert one.visible.tobytes() == two.visible.tobytes()
    assert one.yaw == two.yaw


def test_the_global_generator_plays_no_part() -> None:
    np.random.seed(1)  # noqa: NPY002 - the very thing that must not matter
    one = render(4, size=64)
    np.random.seed(2)  # noqa: NPY002
    assert one.image.tobytes() == render(4, size=64).image.tobytes()


def test_seeds_differ_in_picture_and_landmarks() -> None:
    first = face(0)
    for seed in range(1, 8):
        other = face(seed)
        assert np.abs(first.image.astype(float) - other.image).mean() > 10
        assert np.abs(first.landmarks - other.landmarks).max() > 1


@pytest.mark.parametrize("size", [64, 100, 128, 256])
def test_shapes_and_types(size: int) -> None:
    made = render(11, size=size)
    assert made.image.shape == (size, size, 3)
    assert made.image.dtype == np.uint8
    assert made.landmarks.shape == (COUNT, 2)
    assert made.landmarks.dtype == np.float32
    assert made.visible.shape == (COUNT,)
    assert made.visible.dtype == np.bool_
    assert isinstance(made.yaw, float)


def test_landmarks_scale_with_the_size() -> None:
    small, middle, large = (render(12, size=size) for size in (64, 128, 256))
    np.testing.assert_allclose(small.landmarks * 2, middle.landmarks, atol=1e-3)
    np.testing.assert_allclose(middle.landmarks * 2, large.landmarks, atol=1e-3)
    assert small.yaw == middle.yaw == large.yaw
    assert (small.visible == large.visible).mean() > 0.9


def test_the_picture_shows_the_same_at_every_size() -> None:
    small, large = (render(12, size=size).image.astype(float) for size in (64, 256))
    shrunk = large.reshape(64, 4, 64, 4, 3).mean(axis=(1, 3))
    assert np.corrcoef(small.ravel(), shrunk.ravel())[0, 1] > 0.95


def test_the_neutral_head_is_symmetric() -> None:
    points = head(Person()).points
    np.testing.assert_allclose(points[:, ::-1] * [-1, 1, 1], points, atol=2e-4)


def test_the_neutral_landmarks_are_symmetric() -> None:
    points = landmarks(Person())
    np.testing.assert_allclose(points[MIRROR] * [-1, 1, 1], points, atol=1e-4)
    assert sorted(MIRROR) == list(range(COUNT))
    assert (MIRROR[MIRROR] == np.arange(COUNT)).all()


def test_the_neutral_landmarks_follow_the_ibug_order() -> None:
    x, y, z = landmarks(Person()).T
    assert z.argmax() == NOSE_TIP
    assert y.argmin() == 8
    assert (np.diff(x[:17]) > 0).all()
    assert (np.diff(x[17:27]) > 0).all()
    assert (np.diff(y[27:31]) < 0).all()
    assert (np.diff(x[31:36]) > 0).all()
    assert x[36:40].argmin() == 0
    assert x[36:40].argmax() == 3
    assert (np.diff(x[48:55]) > 0).all()
    assert (np.diff(x[54:60]) < 0).all()
    brow, eye, nose, mouth, chin = (y[i].mean() for i in (slice(17, 27), slice(36, 48), 30, slice(48, 68), 8))
    assert brow > eye > nose > mouth > chin


@pytest.mark.parametrize("seed", range(4))
def test_landmarks_lie_on_the_head(seed: int) -> None:
    person = draw(np.random.default_rng(seed))
    points = head(person).points.reshape(-1, 3)
    # The bound is about the sampled grid's widest step, at the steep rim of an open mouth.
    for landmark in landmarks(person):
        assert np.linalg.norm(points - landmark, axis=1).min() < 0.07


def test_a_placed_point_is_a_point_of_the_sampled_head() -> None:
    person = draw(np.random.default_rng(5))
    surface = head(person)
    rows, cols = np.array([60, 120, 180]), np.array([120, 144, 160])
    np.testing.assert_allclose(
        place(person, surface.theta[cols], surface.t[rows]), surface.points[rows, cols], atol=1e-4
    )


def test_positive_yaw_turns_the_nose_to_the_image_right() -> None:
    nose = np.array([0, 0, 1])
    assert (rotation(30, 0, 0) @ nose)[0] == pytest.approx(0.5)
    assert (rotation(0, 30, 0) @ nose)[1] == pytest.approx(0.5)
    for made in faces(25, 90):
        assert made.landmarks[NOSE_TIP, 0] > made.landmarks[36:48, 0].mean()
    for made in faces(-90, -25):
        assert made.landmarks[NOSE_TIP, 0] < made.landmarks[36:48, 0].mean()


@pytest.mark.parametrize(("low", "high", "far"), [(60, 90, MIRROR[IMAGE_LEFT]), (-90, -60, IMAGE_LEFT)])
def test_the_far_side_is_hidden_in_profile(low: float, high: float, far: list[int]) -> None:
    near = MIRROR[far]
    shares = np.array([[made.visible[far].mean(), made.visible[near].mean()] for made in faces(low, high)])
    assert shares[:, 0].mean() < 0.35
    assert (shares[:, 1] > shares[:, 0] + 0.3).all()


def test_a_frontal_face_is_seen() -> None:
    inner = np.r_[17:31, 36:68]
    for made in faces(-12, 12):
        assert made.visible[inner].mean() > 0.9


def test_landmarks_are_in_the_picture_and_fill_it() -> None:
    for seed in SEEDS:
        marks = face(seed).landmarks / 64
        assert marks.min() > -0.05
        assert marks.max() < 1.05
        assert 0.5 < np.ptp(marks, axis=0).max() < 0.8


def test_yaws_are_broad_and_within_their_bound() -> None:
    yaws = np.array([face(seed).yaw for seed in SEEDS])
    assert np.abs(yaws).max() <= 90
    assert 0.3 < (np.abs(yaws) < 35).mean() < 0.85
    assert (yaws > 60).any()
    assert (yaws < -60).any()
    assert all(abs(render(seed, size=64, max_yaw=10).yaw) <= 10 for seed in range(5))
    assert render(0, size=64, max_yaw=0).yaw == 0


def test_the_eyes_hold_more_contrast_than_the_cheeks() -> None:
    ratios = []
    for made in faces(-20, 20):
        grey = made.image.mean(axis=2)
        eye, cheek = made.landmarks[36:42].mean(axis=0), made.landmarks[[2, 31, 36, 48]].mean(axis=0)
        ratios.append(_around(grey, eye).std() / _around(grey, cheek).std())
    assert np.median(ratios) > 1.5


def test_occluders_hide_landmarks_now_and_then_and_leave_the_face_alone() -> None:
    hidden = 0
    for seed in range(12):
        made, bare = render(seed, size=64), face(seed)
        np.testing.assert_array_equal(made.landmarks, bare.landmarks)
        hidden += int((bare.visible & ~made.visible).sum() >= 3)
    assert 1 <= hidden <= 9


def test_the_nearer_mesh_wins_and_the_empty_pixel_is_infinitely_far() -> None:
    light = Light(*(np.array(v, np.float32) for v in ([0, 0, 1], [0] * 3, [0, 0, 1], [0] * 3, [1] * 3, [1] * 3)))
    camera = Camera(distance=1e6, zoom=10.0, centre=(16.0, 16.0))
    red, blue = _square(1.0, 0.0, (1, 0, 0)), _square(0.5, 0.5, (0, 0, 1))
    for meshes in ([red, blue], [blue, red]):
        image, depth = rasterise(meshes, camera, light, 32)
        np.testing.assert_allclose(image[16, 16], [0, 0, 1], atol=1e-5)
        np.testing.assert_allclose(image[8, 8], [1, 0, 0], atol=1e-5)
        assert depth[16, 16] == pytest.approx(0.5)
        assert np.isneginf(depth[2, 2])
        assert np.isfinite(depth[7:25, 7:25]).all()


def _around(grey: np.ndarray, point: np.ndarray) -> np.ndarray:
    x, y = point.astype(int)
    return grey[y - 3 : y + 4, x - 3 : x + 4]


def _square(half: float, z: float, colour: tuple[float, float, float]) -> Mesh:
    """A square towards the camera with four coarse cells, which the rasteriser has to fill."""
    side = np.linspace(-half, half, 3, dtype=np.float32)
    x, y = np.meshgrid(side, -side)
    points = np.stack([x, y, np.full_like(x, z)], axis=-1)
    return Mesh(points, np.broadcast_to(np.array(colour, np.float32), points.shape), None, 0.0)
