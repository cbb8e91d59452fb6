"""Landmarks go with the annotated points that they stay at, and visibility is judged by whether these are hidden."""

import numpy as np
import pytest

from uldscale.evaluation.visible import area_under_curve, partners


def test_a_landmark_stays_at_its_point_and_is_lost_where_that_is_hidden() -> None:
    random = np.random.default_rng(0)
    truth = random.random((60, 5, 2))
    seen = random.random((60, 5)) < 0.7
    points = truth[:, [3, 0]] + 0.01 * random.standard_normal((60, 2, 2))
    points[~seen[:, 3], 0] = truth[~seen[:, 3], 1]
    points[0, 1] = np.nan
    assert partners(points, truth, seen).tolist() == [3, 0]


def test_a_point_that_is_never_seen_is_nobodys() -> None:
    truth = np.zeros((4, 2, 2)) + np.arange(2)[:, None]
    seen = np.array([[False, True]] * 4)
    assert partners(np.zeros((4, 1, 2)), truth, seen).tolist() == [1]


def test_area() -> None:
    seen = np.array([[True, False], [True, False], [True, True]])
    assert area_under_curve(np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.6]]), seen) == 1
    assert area_under_curve(np.array([[0.1, 0.9], [0.2, 0.8], [0.3, np.nan]]), seen) == 0, "without what is missing"
    assert area_under_curve(np.full((3, 2), 0.5), seen) == pytest.approx(0.5)
    assert area_under_curve(np.full((3, 2), 0.5), np.ones((3, 2), bool)) is None
