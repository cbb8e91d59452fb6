import json

import numpy as np
import pytest

from uldscale.evaluation import clusters


def blobs(per_blob=40):
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), per_blob)
    return generator.normal(size=(len(labels), 4)) + 4 * np.eye(3, 4)[labels], labels


def plain_silhouette(points, labels):
    values = []
    for i, point in enumerate(points):
        far = np.linalg.norm(points - point, axis=1)
        own = far[(labels == labels[i]) & (np.arange(len(points)) != i)].mean()
        other = min(far[labels == label].mean() for label in set(labels) - {labels[i]})
        values.append((other - own) / max(own, other))
    return np.mean(values)


def plain_calinski_harabasz(points, labels):
    mean, count = points.mean(axis=0), len(set(labels))
    parts = [points[labels == label] for label in set(labels)]
    between = sum(len(part) * ((part.mean(axis=0) - mean) ** 2).sum() for part in parts)
    within = sum(((part - part.mean(axis=0)) ** 2).sum() for part in parts)
    return between / (count - 1) / (within / (len(points) - count))


def test_separation_against_the_definitions():
    points, labels = blobs()
    result = clusters.separation(points, labels, seed=0)
    assert result.silhouette == pytest.approx(plain_silhouette(points, labels))
    assert result.calinski_harabasz == pytest.approx(plain_calinski_harabasz(points, labels))
    assert result.num_points == 120


def test_separation_takes_a_seeded_sample(monkeypatch):
    monkeypatch.setattr(clusters, "SEPARATION_SAMPLE", 50)
    points, labels = blobs()
    rows = np.sort(np.random.default_rng(3).choice(120, 50, replace=False))
    assert clusters.separation(points, labels, seed=3) == clusters.separation(points[rows], labels[rows], seed=0)
    assert clusters.separation(points, labels, seed=3) != clusters.separation(points, labels, seed=4)


@pytest.mark.parametrize("labels", [np.zeros(6, dtype=int), np.arange(6), np.zeros(0, dtype=int)])
def test_separation_of_nothing_is_none(labels):
    result = clusters.separation(np.random.default_rng(0).normal(size=(len(labels), 3)), labels, seed=0)
    assert (result.silhouette, result.calinski_harabasz) == (None, None)
    json.dumps(result.to_json(), allow_nan=False)


YAW = np.array([-80.0, -60, -54, -20, -10, 0, 5, 10, 30, 50, 95, np.nan, 0])
POSES = np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 1, -1])


def test_pose_agreement_of_a_case_by_hand():
    # ranges: [-90, -54) x2, [-54, -18) x2, [-18, 18) x4, [18, 54) x2, [54, 90] x1
    # pose 0 has 2 and 2 in the first two and is mapped to the first; pose 1 to the middle; pose 2 to the fourth
    result = clusters.pose_agreement(POSES, YAW)
    assert result.edges == (-90, -54, -18, 18, 54, 90)
    assert result.purity == pytest.approx(8 / 11)
    assert result.majority == pytest.approx(4 / 11)
    assert result.accuracy == (1, 0, 1, 1, 0)
    assert result.num_images == 11
    json.dumps(result.to_json(), allow_nan=False)


def test_perfect_poses():
    yaw = np.array([-70.0, -30, 0, 30, 70] * 4)
    result = clusters.pose_agreement(np.array([3, 0, 4, 1, 2] * 4), yaw)
    assert result.purity == 1
    assert set(result.accuracy) == {1}
    assert result.normalised_mutual_information == pytest.approx(1)
    assert result.adjusted_rand == pytest.approx(1)


def test_numbers_of_poses_do_not_matter():
    generator = np.random.default_rng(0)
    poses, yaw = generator.integers(0, 6, 300), generator.uniform(-90, 90, 300)
    one, other = clusters.pose_agreement(poses, yaw), clusters.pose_agreement(generator.permutation(6)[poses], yaw)
    assert (one.purity, one.accuracy) == (other.purity, other.accuracy)
    assert other.normalised_mutual_information == pytest.approx(one.normalised_mutual_information)


def test_a_single_pose_reaches_the_majority():
    result = clusters.pose_agreement(np.zeros(13, dtype=int), YAW, edges=(-60, -20, 20, 60))
    assert result.purity == result.majority
    assert result.normalised_mutual_information == 0


def test_an_empty_range_has_no_accuracy():
    assert clusters.pose_agreement(np.zeros(2, dtype=int), np.zeros(2)).accuracy == (None, None, 1, None, None)


def test_no_pose_with_yaw_is_refused():
    with pytest.raises(ValueError, match="none of 3 images"):
        clusters.pose_agreement(np.array([-1, 0, 0]), np.array([0, np.nan, np.nan]))
