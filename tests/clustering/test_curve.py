import numpy as np
import pytest

from uldscale.clustering import curve, kmeans

POSES = 5


def turned(angles, seed=0):
    """Codes of an object that turns: landmarks move with sine and cosine, other numbers say something else."""
    bend = np.stack([np.sin(angles), 0.4 * np.cos(angles)], axis=1)
    others = np.random.default_rng(seed).normal(size=(len(angles), 4)) * 0.02
    return np.hstack([bend, others]).astype(np.float32)


def purity(poses, angles):
    ranges = np.digitize(angles, np.linspace(-np.pi / 2, np.pi / 2, POSES + 1)[1:-1])
    return sum(np.bincount(ranges[poses == pose]).max() for pose in np.unique(poses)) / len(angles)


@pytest.fixture(scope="module")
def angles():
    return np.random.default_rng(1).uniform(-np.pi / 2, np.pi / 2, 1500)


def test_parts_are_ranges_of_the_angle(angles):
    parts = curve.cut(turned(angles), POSES, seed=0)
    inner = sorted((angles[parts == part].min(), angles[parts == part].max()) for part in range(POSES))
    assert all(before[1] < after[0] + 0.1 for before, after in zip(inner, inner[1:], strict=False))


def test_the_ends_of_the_curve_are_parts_of_their_own(angles):
    codes = turned(angles)
    ours = purity(curve.cut(codes, POSES, seed=0), angles)
    assert ours > purity(kmeans.assign(codes, kmeans.fit(codes, POSES, seed=0))[0], angles)
    assert ours > 0.85


def test_codes_beyond_the_sample_change_little(angles, monkeypatch):
    codes = turned(angles)
    whole = curve.cut(codes, POSES, seed=0)
    monkeypatch.setattr(curve, "SAMPLE", 1000)
    drawn = curve.cut(codes, POSES, seed=0)
    assert drawn.min() == 0
    matched = sum(np.bincount(drawn[whole == part]).max() for part in range(POSES))
    assert matched / len(codes) > 0.9


def test_seed_decides(angles):
    codes = turned(angles)
    assert (curve.cut(codes, POSES, seed=3) == curve.cut(codes, POSES, seed=3)).all()


def test_clumps_without_links_are_found():
    codes = np.repeat(10 * np.eye(3), 50, axis=0) + np.random.default_rng(0).normal(size=(150, 3))
    parts = curve.cut(codes.astype(np.float32), 3, seed=0).reshape(3, 50)
    assert (parts == parts[:, :1]).all()
    assert sorted(parts[:, 0]) == [0, 1, 2]


@pytest.mark.parametrize(("count", "poses"), [(30, 5), (5, 5), (200, 1)])
def test_few_codes_and_one_pose_are_k_means(count, poses):
    codes = np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32)
    assert (curve.cut(codes, poses, seed=0) == kmeans.assign(codes, kmeans.fit(codes, poses, seed=0))[0]).all()


def test_equal_codes_have_a_pose_like_any_other():
    assert set(curve.cut(np.ones((200, 4), np.float32), 3, seed=0)) <= {0, 1, 2}


def test_poses_follow_codes_that_move(angles):
    """However far: nothing but the neighbours counts."""
    before = curve.cut(turned(angles), POSES, seed=0)
    moved = 3 * turned(angles, seed=1) @ np.linalg.qr(np.random.default_rng(2).normal(size=(6, 6)))[0] + 7
    assert (
        np.mean(curve.Votes.drawn(moved.astype(np.float32), before, seed=0).of(moved.astype(np.float32)) == before)
        > 0.97
    )


def test_the_neighbours_outvote_a_wrong_pose():
    codes = np.repeat([[0.0], [9.0]], 60, axis=0) + np.random.default_rng(0).normal(size=(120, 1))
    true = np.repeat([1, 0], 60)
    poses = np.where(np.arange(120) % 5 == 0, 1 - true, true)
    assert (curve.Votes.drawn(codes.astype(np.float32), poses, seed=0).of(codes.astype(np.float32)) == true).all()


def test_codes_without_a_pose_get_one_and_have_no_vote():
    codes = np.repeat([[0.0], [9.0]], 60, axis=0).astype(np.float32)
    poses = np.repeat([1, 0], 60)
    known = np.where(np.arange(120) % 60 < 25, poses, -1)
    assert (curve.Votes.drawn(codes, known, seed=0).of(codes) == poses).all()


def test_a_pose_of_few_images_is_not_outvoted():
    codes = np.array([[0.0], [0.1], [0.2], [5.0], [5.1], [5.2], [5.3], [5.4]], np.float32)
    poses = np.repeat([1, 0], [3, 5])
    assert (curve.Votes.drawn(codes, poses, seed=0).of(codes) == poses).all()
