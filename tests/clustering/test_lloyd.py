"""Lloyd's iterations."""

import numpy as np
import pytest

from uldscale.clustering.lloyd import Cloud

POINTS = np.array([[0], [1], [10], [11]], np.float32)


def centroids(*values):
    return np.array(values, np.float32)[:, None]


def test_known_answer():
    inertia, found = Cloud.of(POINTS).descend(centroids(0, 4))
    assert found.ravel().tolist() == [0.5, 10.5]
    assert inertia == pytest.approx(1)


def test_inertia_and_counts_are_those_of_the_centroids_that_are_given():
    inertia, counts, means = Cloud.of(POINTS).step(centroids(0, 4))
    assert inertia == pytest.approx(0 + 1 + 36 + 49)
    assert counts.tolist() == [2, 2]
    assert means.ravel().tolist() == [0.5, 10.5]


def test_no_iteration_raises_the_inertia():
    points = np.random.default_rng(0).normal(size=(20_000, 5)).astype(np.float32)
    cloud, found, inertias = Cloud.of(points), points[:9], []
    for _ in range(12):
        inertia, _, found = cloud.step(found)
        inertias.append(inertia)
    assert (np.diff(inertias) < 0).all()
    assert cloud.descend(points[:9])[0] < 1.001 * inertias[-1]


def test_a_centroid_without_points_is_seeded_again():
    _, counts, means = Cloud.of(POINTS).step(centroids(0, 1000, 11))
    assert (counts.tolist(), means.ravel().tolist()) == ([2, 0, 2], [0.5, 1000, 10.5])
    _, found = Cloud.of(POINTS).descend(centroids(0, 1000, 11))
    assert sorted(Cloud.of(POINTS).step(found)[1]) == [1, 1, 2]


def test_the_lower_of_equal_centroids_has_the_points():
    assert Cloud.of(POINTS).step(centroids(5, 5))[1].tolist() == [4, 0]


def test_points_far_from_the_origin():
    points = np.concatenate([1000 + POINTS, 2000 + POINTS])
    _, found = Cloud.of(points).descend(centroids(1000, 1008, 2000, 2008))
    assert found.ravel().tolist() == [1000.5, 1010.5, 2000.5, 2010.5]
