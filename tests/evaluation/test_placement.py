"""Where landmarks are, against places that are known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from uldscale.evaluation import placement


@pytest.fixture
def points() -> NDArray[np.float64]:
    """30 images, 4 landmarks that move with the object, the last one missing on a third of the images."""
    rng = np.random.default_rng(0)
    shape = np.array([[0.3, 0.3], [0.7, 0.3], [0.5, 0.5], [0.5, 0.7]])
    points = shape + rng.uniform(-0.1, 0.1, (30, 1, 2))
    points[::3, 3] = np.nan
    return points


def test_shares_found(points: NDArray[np.float64]) -> None:
    assert placement.shares_found(points) == pytest.approx([1, 1, 1, 2 / 3])


def test_distances_are_of_the_images_that_have_both(points: NDArray[np.float64]) -> None:
    distances = placement.pair_distances(points)
    assert distances[0, 1] == distances[1, 0] == pytest.approx(0.4)
    assert distances[2, 3] == pytest.approx(0.2)
    assert np.isinf(np.diag(distances)).all()
    points[:, 3] = np.nan
    assert np.isinf(placement.pair_distances(points)[3]).all()


def test_groups_are_chains() -> None:
    places = np.array([0.0, 5.0, 0.2, 0.1, 5.05, 9.0])
    distances = np.abs(places[:, None] - places) + np.diag(np.full(6, np.inf))
    assert placement.groups(distances, 0.15) == [[0, 2, 3], [1, 4]]
    assert placement.groups(distances, 0.01) == []


def test_extent_is_the_root_mean_square_distance_from_the_centre(points: NDArray[np.float64]) -> None:
    square = np.tile([[0.4, 0.4], [0.6, 0.4], [0.4, 0.6], [0.6, 0.6]], (5, 1, 1))
    assert placement.extent(square) == pytest.approx(0.1 * np.sqrt(2))
    square[0, 1:] = np.nan
    assert placement.extent(square) == pytest.approx(0.1 * np.sqrt(2))
    assert np.isnan(placement.extent(np.full((3, 4, 2), np.nan)))


def test_what_is_on_the_frame() -> None:
    points = np.array([[[0.11, 0.5], [0.5, 0.5], [np.nan, np.nan]], [[0.5, 0.89], [0.5, 0.86], [np.nan, np.nan]]])
    assert placement.shares_on_frame(points, 0.1).tolist() == [1, 0, 0]
    assert placement.shares_on_frame(points, 0.0).tolist() == [0, 0, 0]


def test_scatter_is_that_of_places_in_the_crop() -> None:
    points = np.zeros((5, 2, 2))
    points[:, 1, 0] = [0.1, 0.2, 0.3, 0.4, 0.5]
    assert placement.scatter(points) == pytest.approx([0, 0.1])
    points[1:, 0] = np.nan
    assert np.isnan(placement.scatter(points)[0])


def test_what_stays_while_the_image_moves(points: NDArray[np.float64]) -> None:
    matrices = np.tile(np.eye(3), (30, 1, 1))
    matrices[:, 0, 2] = 0.1
    follows = points + [0.1, 0]
    assert placement.shares_unmoved(points, follows, matrices).tolist() == [0, 0, 0, 0]
    mixed = np.where(np.arange(4)[:, None] < 2, points, follows)
    assert placement.shares_unmoved(points, mixed, matrices).tolist() == [1, 1, 0, 0]
    matrices[:, 0, 2] = 0.01
    assert np.isnan(placement.shares_unmoved(points, follows, matrices)).all()
