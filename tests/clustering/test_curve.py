import numpy as np
import pytest

from uldscale.clustering import curve, kmeans

POSES = 5


def turned(angles, seed=0):
    """Codes of an object that turns: landmarks move with sine and cosine, other numbers say something else."""
    bend = np.stack([np.sin(angles), 0.4 * np.cos(angles)], axis=1)
    others = np.random.default_rng(seed).normal(size=(len(angles), 4)) * 0.02
    return np.hstack([bend, others]).astype(np.float32)


def purity(codes, centroids, angles):
    ranges = np.digitize(angles, np.linspace(-np.pi / 2, np.pi / 2, POSES + 1)[1:-1])
    poses = kmeans.assign(codes, centroids)[0]
    return sum(np.bincount(ranges[poses == pose]).max() for pose in np.unique(poses)) / len(angles)


@pytest.fixture(scope="module")
def angles():
    return np.random.default_rng(1).uniform(-np.pi / 2, np.pi / 2, 1500)


def test_parts_are_ranges_of_the_angle(angles):
    codes = turned(angles)
    parts = kmeans.assign(codes, curve.fit(codes, POSES, seed=0))[0]
    inner = sorted((angles[parts == part].min(), angles[parts == part].max()) for part in range(POSES))
    assert all(before[1] < after[0] + 0.1 for before, after in zip(inner, inner[1:], strict=False))


def test_the_ends_of_the_curve_are_parts_of_their_own(angles):
    codes = turned(angles)
    ours = purity(codes, curve.fit(codes, POSES, seed=0), angles)
    assert ours > purity(codes, kmeans.fit(codes, POSES, seed=0), angles)
    assert ours > 0.85


def test_codes_beyond_the_sample_change_little(angles, monkeypatch):
    codes = turned(angles)
    whole = kmeans.assign(codes, curve.fit(codes, POSES, seed=0))[0]
    monkeypatch.setattr(curve, "SAMPLE", 1000)
    drawn = kmeans.assign(codes, curve.fit(codes, POSES, seed=0))[0]
    matched = sum(np.bincount(drawn[whole == part]).max() for part in range(POSES))
    assert matched / len(codes) > 0.9


def test_seed_decides(angles):
    codes = turned(angles)
    assert (curve.fit(codes, POSES, seed=3) == curve.fit(codes, POSES, seed=3)).all()


def test_clumps_without_links_are_found():
    centres = 10 * np.eye(3, dtype=np.float32)
    codes = np.repeat(centres, 50, axis=0) + np.random.default_rng(0).normal(size=(150, 3)).astype(np.float32)
    found = curve.fit(codes, 3, seed=0)
    assert sorted(kmeans.assign(centres, found)[0]) == [0, 1, 2]


@pytest.mark.parametrize(("count", "poses"), [(30, 5), (5, 5), (200, 1)])
def test_few_codes_and_one_pose_are_k_means(count, poses):
    codes = np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32)
    assert (curve.fit(codes, poses, seed=0) == kmeans.fit(codes, poses, seed=0)).all()


def test_equal_codes_give_equal_centroids():
    codes = np.ones((200, 4), np.float32)
    assert curve.fit(codes, 3, seed=0) == pytest.approx(1)
