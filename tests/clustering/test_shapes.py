import numpy as np
import pytest

from uldscale.clustering.shapes import KNOWN, SHAPE_WEIGHT, PoseSpace


def turned(yaw: np.ndarray) -> np.ndarray:
    """Places (N, 4, 2) of four landmarks on a ball of radius 0.3 that has turned, as shares of the crop."""
    angles = np.radians(yaw[:, None] + [-30, 0, 30, 0])
    x = 0.5 + 0.3 * np.sin(angles)
    return np.stack([x, np.broadcast_to([0.4, 0.5, 0.4, 0.7], x.shape)], -1).astype(np.float32)


def shapes(places: np.ndarray, *, seed: int) -> np.ndarray:
    """As they are in pose vectors, with units and offsets of their own."""
    space = PoseSpace.fit(np.zeros((len(places), 0), np.float32), places, seed=seed)
    return space.of(np.zeros((len(places), 0), np.float32), places) / space.scale + space.centre


def pose_vectors(codes: np.ndarray, places: np.ndarray, *, seed: int) -> np.ndarray:
    return PoseSpace.fit(codes, places, seed=seed).of(codes, places)


@pytest.fixture
def places() -> np.ndarray:
    return turned(np.random.default_rng(0).uniform(-60, 60, 400))


def test_shapes_of_whole_images_are_their_places(places: np.ndarray) -> None:
    np.testing.assert_allclose(shapes(places, seed=0), places.reshape(400, 8), atol=1e-6)


def test_a_missing_landmark_is_where_it_is_on_like_images(places: np.ndarray) -> None:
    hidden = np.random.default_rng(1).random((400, 4)) < 0.2
    some = np.where(hidden[..., None], np.nan, places)
    found = shapes(some, seed=0).reshape(400, 4, 2)
    seen = (~hidden).sum(1) >= 2
    assert np.abs(found - places)[seen].max() < 0.05
    assert np.abs(np.nanmean(some, 0) - places)[hidden & seen[:, None]].max() > 0.2


def test_what_is_nowhere_tells_no_image_from_another(places: np.ndarray) -> None:
    some = places.copy()
    some[:, 1] = some[7] = np.nan
    found = shapes(some, seed=0)
    assert np.isfinite(found).all()
    assert np.ptp(found[:, 2:4]) < 1e-6


def test_of_many_images_a_sample_fills_in_the_rest(places: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uldscale.clustering.shapes.KNOWN", 100)
    some = places.copy()
    some[::5, 0] = np.nan
    np.testing.assert_allclose(shapes(some, seed=0), places.reshape(400, 8), atol=0.03)
    assert KNOWN > 100


def test_neither_units_nor_offsets_of_codes_and_places_count(places: np.ndarray) -> None:
    codes = np.random.default_rng(2).normal(size=(400, 5)).astype(np.float32)
    found = pose_vectors(codes, places, seed=0)
    np.testing.assert_allclose(pose_vectors(100 * codes + 7, places / 4, seed=0), found, atol=1e-4)
    spread = np.square(found - found.mean(0)).mean(0)
    assert spread[:5].sum() == pytest.approx(1, rel=1e-4)
    assert spread[5:].sum() == pytest.approx(SHAPE_WEIGHT**2, rel=1e-4)


def test_codes_that_are_all_the_same_leave_it_to_the_places(places: np.ndarray) -> None:
    found = pose_vectors(np.full((400, 3), 0.1, np.float32), places, seed=0)
    assert (found[:, :3] == 0).all()
    assert np.ptp(found[:, 3:]) > 0
