"""Landmarks that have changed places on a known share of images."""

import numpy as np
import pytest
from numpy.typing import NDArray

from uldscale.evaluation import exchanges

FACE = np.array(
    [[0.3, 0.3], [0.7, 0.3], [0.35, 0.4], [0.65, 0.4], [0.5, 0.55], [0.4, 0.7], [0.6, 0.7], [0.5, 0.8]], dtype=float
)
MIRROR = [1, 0, 3, 2, 4, 6, 5, 7]


@pytest.fixture
def points() -> NDArray[np.float64]:
    """A face, turned, scaled and shifted, with noise, on 60 images."""
    rng = np.random.default_rng(1)
    angles, scales = rng.uniform(-np.pi, np.pi, 60), rng.uniform(0.7, 1.2, 60)
    turns = scales[:, None, None] * np.stack(
        [np.stack([np.cos(angles), -np.sin(angles)], -1), np.stack([np.sin(angles), np.cos(angles)], -1)], 1
    )
    return np.asarray(
        (FACE - 0.5) @ turns.transpose(0, 2, 1) + rng.normal(0.5, 0.02, (60, 1, 2)) + rng.normal(0, 0.008, (60, 8, 2))
    )


def test_a_similarity_is_no_exchange(points: NDArray[np.float64]) -> None:
    assert exchanges.shares_exchanged(points).max() == 0


def test_half_of_the_images_mirrored(points: NDArray[np.float64]) -> None:
    points[::2] = points[::2][:, MIRROR]
    assert exchanges.shares_exchanged(points) == pytest.approx([0.5, 0.5, 0.5, 0.5, 0, 0.5, 0.5, 0])


def test_one_pair_on_a_fifth_of_the_images(points: NDArray[np.float64]) -> None:
    points[::5, [5, 6]] = points[::5][:, [6, 5]]
    points[:, 4] = np.nan
    assert exchanges.shares_exchanged(points) == pytest.approx([0, 0, 0, 0, 0, 0.2, 0.2, 0])


def test_a_head_that_turns_away_is_no_exchange() -> None:
    """Orthographic views of points in space, yaw from -80 to 80 degrees."""
    depth = np.array([0.0, 0, 0.02, 0.02, 0.25, 0.1, 0.1, 0.1])
    yaw = np.radians(np.linspace(-80, 80, 81))
    x = np.cos(yaw)[:, None] * (FACE[:, 0] - 0.5) + np.sin(yaw)[:, None] * depth
    points = np.stack([x + 0.5, np.broadcast_to(FACE[:, 1], x.shape)], -1)
    assert exchanges.shares_exchanged(points).max() == 0


def test_too_little_to_tell() -> None:
    assert exchanges.shares_exchanged(np.random.default_rng(0).random((9, 3, 2))).tolist() == [0, 0, 0]
    assert exchanges.shares_exchanged(np.full((9, 5, 2), np.nan)).tolist() == [0] * 5


def test_distance_is_that_after_the_best_similarity() -> None:
    shape = FACE[:, 0] + 1j * FACE[:, 1]
    other = shape * 3 * np.exp(0.7j) + 2 - 1j
    assert exchanges.distances(np.array([other]), shape) == pytest.approx([0], abs=1e-6)
    rng = np.random.default_rng(0)
    noisy = shape + rng.normal(0, 0.05, 8) + 1j * rng.normal(0, 0.05, 8)
    design = np.stack([noisy, np.ones(8)], 1)
    rest = shape - design @ np.linalg.lstsq(design, shape, rcond=None)[0]
    wanted = np.linalg.norm(rest) / np.linalg.norm(shape - shape.mean())
    assert exchanges.distances(np.array([noisy]), shape) == pytest.approx([wanted])


def test_mirror_pairs_left_with_right() -> None:
    assert exchanges.mirror(FACE[:, 0] + 1j * FACE[:, 1]).tolist() == MIRROR
