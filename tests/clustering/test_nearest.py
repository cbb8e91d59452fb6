"""The nearest centroid: the exact one, whatever float32 says, and the same in any company."""

import numpy as np
import pytest

from uldscale.clustering import blocks
from uldscale.clustering.nearest import Scores, nearest


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("rows", [7, 40, 1000])
def test_against_a_plain_loop(rows, monkeypatch):
    monkeypatch.setattr(blocks, "ROWS", rows)
    points, centroids = normal(40, 5), normal(6, 5, seed=1)
    labels, distances = nearest(points, centroids)
    for point, label, distance in zip(points, labels, distances, strict=True):
        every = [float(np.sqrt(((point - centroid) ** 2).sum())) for centroid in centroids]
        assert label == int(np.argmin(every))
        assert distance == pytest.approx(min(every), rel=1e-5)
    assert labels.dtype == np.int32
    assert distances.dtype == np.float32


def test_ties_go_to_the_lower_label():
    labels, _ = nearest(np.zeros((3, 2), np.float32), np.array([[1, 0], [0, 1], [0, -1]], np.float32))
    assert labels.tolist() == [0, 0, 0]


def test_centroids_that_float32_cannot_tell_apart_are_told_apart():
    """A thousand from the origin, products of single precision err by more than what parts the points."""
    points = 1000 + 0.01 * normal(3000, 16)
    centroids = points[:20]
    labels, _ = nearest(points, centroids)
    exact = ((points[:, None].astype(np.float64) - centroids) ** 2).sum(axis=2).argmin(axis=1)
    assert (labels == exact).all()
    quick = Scores.of(centroids, np.zeros(16))(points).argmin(axis=0)
    assert (quick != exact).any()


def test_a_bisector_has_two_sides():
    """Points one step of float32 on either side of the plane between two centroids."""
    centroids = np.array([[0.3, 0.7], [0.5, 0.7]], np.float32)
    middle = centroids[:, 0].astype(np.float64).mean()
    left = np.nextafter(np.float32(middle), np.float32(0))
    right = np.nextafter(np.float32(middle), np.float32(1))
    labels, _ = nearest(np.array([[left, 0.1], [right, 0.9]] * 500, np.float32), centroids)
    assert labels.tolist() == [0, 1] * 500


def test_the_company_of_a_point_changes_no_bit():
    points, centroids = normal(100_000, 128), normal(10, 128, seed=1)
    labels, distances = nearest(points, centroids)
    for start in (0, 8190, 99_993):
        for count in (1, 7):
            some = slice(start, start + count)
            alone, apart = nearest(points[some], centroids)
            assert (alone == labels[some]).all()
            assert apart.tobytes() == distances[some].tobytes()


def test_a_point_on_a_centroid_is_at_distance_zero():
    points = normal(100, 8)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    assert (nearest(points, points)[1] == 0).all()


def test_no_points_have_no_labels():
    labels, distances = nearest(np.empty((0, 3), np.float32), normal(2, 3))
    assert labels.shape == distances.shape == (0,)


def test_refuses_nan():
    points = np.zeros((4, 2), dtype=np.float32)
    points[2, 1] = np.nan
    with pytest.raises(ValueError, match="1 of 4 points hold NaN"):
        nearest(points, np.zeros((1, 2), dtype=np.float32))
