import numpy as np
import pytest

from uldscale.clustering import exemplars


def plain_keep(images, labels, distances):
    best = {}
    for number, key in enumerate(zip(images.tolist(), labels.tolist(), strict=True)):
        if key not in best or distances[number] < distances[best[key]]:
            best[key] = number
    return np.isin(np.arange(len(images)), list(best.values()))


@pytest.fixture
def keypoints():
    generator = np.random.default_rng(0)
    return generator.integers(0, 20, 600), generator.integers(0, 7, 600), generator.integers(0, 9, 600) / 8


def test_nearest_of_each_image_and_label_stays(keypoints):
    assert (exemplars.keep(*keypoints) == plain_keep(*keypoints)).all()


def test_at_most_one_and_at_least_one_per_image_and_label(keypoints):
    images, labels, distances = keypoints
    mask = exemplars.keep(images, labels, distances)
    pairs = images * 100 + labels
    assert sorted(pairs[mask]) == sorted(set(pairs))


def test_of_equals_the_first_stays():
    images, labels = np.zeros(4, dtype=int), np.array([1, 0, 1, 0])
    assert exemplars.keep(images, labels, np.full(4, 0.5)).tolist() == [True, True, False, False]


def test_numbers_of_labels_and_images_do_not_matter(keypoints):
    images, labels, distances = keypoints
    other = exemplars.keep(19 - images, np.array([4, 0, 6, 2, 1, 5, 3])[labels], distances)
    assert (other == exemplars.keep(images, labels, distances)).all()


def test_gate_drops_what_is_far_for_its_label():
    labels = np.array([3] * 10 + [5] * 10)
    distances = np.array([1.0] * 7 + [2.0] * 3 + [10.0, 12.0] * 5)
    mask = exemplars.keep(np.arange(20), labels, distances, exemplars.gates(labels, distances, 7))
    # label 3: mean 1.3, deviation 0.46; label 5: mean 11, deviation 1, so that 12 just stays
    assert mask.tolist() == [True] * 7 + [False] * 3 + [True] * 10


def test_no_keypoints():
    none = np.zeros(0, dtype=int)
    assert exemplars.keep(none, none, none.astype(float), exemplars.gates(none, none.astype(float), 3)).shape == (0,)
