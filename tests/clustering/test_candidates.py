import numpy as np
import pytest

from uldscale.clustering.candidates import discover, prediction_errors, select

IMAGES = 400
GOOD, JUMPY, RARE = np.arange(5), 5, 6


def places(seed=0, noise=0.01):
    """Five landmarks that follow a common motion, one that jumps between two places, and one that few images have."""
    generator = np.random.default_rng(seed)
    base = np.array([[0.2, 0.2], [0.8, 0.2], [0.5, 0.5], [0.2, 0.8], [0.8, 0.8], [0.5, 0.8], [0.5, 0.2]])
    motion = 0.05 * generator.normal(size=(IMAGES, 1, 2)) + 0.05 * generator.normal(size=(IMAGES, 1, 1)) * (base - 0.5)
    found = base + motion + noise * generator.normal(size=(IMAGES, 7, 2))
    found[:, JUMPY, 0] += 0.2 * generator.choice([-1, 1], IMAGES)
    found[generator.random(IMAGES) < 0.5, RARE] = np.nan
    return found.astype(np.float32)


def test_errors_are_the_noise_that_others_cannot_tell():
    errors = prediction_errors(places())
    # The mean length of a Gaussian vector in the plane is sigma times the root of pi / 2.
    np.testing.assert_allclose(errors[GOOD], 0.01 * np.sqrt(np.pi / 2), rtol=0.25)
    assert 0.18 < errors[JUMPY] < 0.22


def test_errors_do_not_change_with_the_order_of_candidates():
    order = np.random.default_rng(1).permutation(7)
    np.testing.assert_allclose(prediction_errors(places()[:, order]), prediction_errors(places())[order], rtol=1e-6)


def test_a_candidate_that_no_image_has():
    found = places()
    found[:, 0] = np.nan
    assert prediction_errors(found)[0] == 0
    assert 0 not in select(found, 6, 0.0)


def test_the_predictable_are_chosen_then_the_jumpy_then_the_rare():
    chosen = select(places(), 7, min_distance=0.1)
    assert set(chosen[:5]) == set(GOOD)
    assert chosen[5:].tolist() == [JUMPY, RARE]


def test_of_two_at_one_place_one_comes_last():
    found = places()
    twins = np.concatenate([found, found[:, :1] + 0.01], axis=1)
    chosen = select(twins, 8, min_distance=0.1)
    assert {0, 7} - set(chosen[:5]) != set()
    assert len({0, 7} & set(chosen[:5])) == 1
    assert {0, 7} & set(chosen[:7]) == {0, 7}, "a twin is nearer than wanted, but more than half of all images have it"


@pytest.mark.parametrize("seed", [0, 1])
def test_landmarks_are_found_and_a_region_of_one_look_is_not(seed):
    generator = np.random.default_rng(seed)
    looks = np.eye(7, 16) * 4
    found = places(seed)
    known = np.isfinite(found[..., 0])
    image, part = np.nonzero(known)
    descriptors = (looks[part] + 0.1 * generator.normal(size=(len(part), 16))).astype(np.float32)
    centroids, chosen = discover(descriptors, image, found[known], 5, candidates=7, min_distance=0.05, seed=seed)
    nearest = [int(np.argmin(np.linalg.norm(looks - centroid, axis=1))) for centroid in centroids]
    assert sorted(nearest) == list(range(7))
    assert {nearest[candidate] for candidate in chosen} == set(GOOD.tolist())


def test_fewer_keypoints_than_candidates():
    generator = np.random.default_rng(0)
    points = generator.random((6, 2)).astype(np.float32)
    descriptors = np.eye(6, dtype=np.float32)
    centroids, chosen = discover(descriptors, np.arange(6) // 3, points, 4, candidates=30, min_distance=0.0, seed=0)
    assert centroids.shape == (6, 6)
    assert len(set(chosen.tolist())) == 4
