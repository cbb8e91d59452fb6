import json

import numpy as np
import pytest

from uldscale.evaluation.consistency import consistency


def turn(degrees, scale=1.0, shift=(0.0, 0.0)):
    """Similarity about the centre of the unit square."""
    angle = np.radians(degrees)
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = np.eye(3)
    matrix[:2, :2], matrix[:2, 2] = linear, np.array([0.5, 0.5]) - linear @ [0.5, 0.5] + shift
    return matrix


@pytest.fixture
def views():
    generator = np.random.default_rng(0)
    points = generator.uniform(0.4, 0.6, (30, 4, 2))
    angles, scales, shifts = (
        generator.normal(0, 15, 30),
        generator.uniform(0.8, 1.2, 30),
        generator.uniform(-1, 1, (30, 2)),
    )
    matrices = np.stack([turn(*each) for each in zip(angles, scales, 0.05 * shifts, strict=True)])
    moved = np.array([[(m @ [x, y, 1])[:2] for x, y in row] for m, row in zip(matrices, points, strict=True)])
    return points, moved, matrices


def test_landmarks_that_move_with_the_image_have_no_error(views):
    result = consistency(*views, size=128)
    assert result.error_px == pytest.approx(0, abs=1e-9)
    assert result.skip_rate == 0


def test_error_is_in_pixels_of_the_crop(views):
    points, moved, matrices = views
    moved = moved + np.array([[0, 0], [3, 4], [0, 1], [6, 8]]) / 128
    result = consistency(points, moved, matrices, size=128)
    assert result.per_landmark_px == pytest.approx((0, 5, 1, 10))
    assert result.error_px == pytest.approx(4)


def test_missing_pairs_are_skipped(views):
    points, moved, matrices = (array.copy() for array in views)
    points[:6, 0], moved[4:9, 0], moved[:, 2] = np.nan, np.nan, np.nan
    moved[:, 3] += 1 / 128
    result = consistency(points, moved, matrices, size=128)
    assert result.skip_rate == pytest.approx((9 + 30) / 120)
    assert result.per_landmark_px[2] is None
    assert result.error_px == pytest.approx(np.sqrt(2) / 3)
    json.dumps(result.to_json(), allow_nan=False)


def test_landmarks_that_leave_the_view_are_skipped():
    points = np.array([[[0.9, 0.5], [0.5, 0.5]]])
    result = consistency(points, np.array([[[0.2, 0.2], [0.7, 0.5]]]), turn(0, shift=(0.2, 0))[None], size=100)
    assert result.per_landmark_px == (None, pytest.approx(0))
    assert result.skip_rate == 0.5


def test_nothing_to_compare(views):
    points, moved, matrices = views
    result = consistency(points, np.full_like(moved, np.nan), matrices, size=128)
    assert result.error_px is None
    assert result.skip_rate == 1


def test_a_homography_is_divided_out():
    matrix = np.array([[2.0, 0, 0], [0, 2.0, 0], [0, 0, 4.0]])
    result = consistency(np.array([[[0.4, 0.8]]]), np.array([[[0.2, 0.4]]]), matrix[None], size=10)
    assert result.error_px == pytest.approx(0)


def test_without_an_image_nothing_was_compared():
    result = consistency(np.zeros((0, 3, 2)), np.zeros((0, 3, 2)), np.zeros((0, 3, 3)), size=128)
    assert (result.error_px, result.skip_rate) == (None, 1)
