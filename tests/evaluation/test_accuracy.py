import json

import numpy as np
import pytest

from uldscale.evaluation.accuracy import hungarian_accuracy

KIND = "eye_centres"


@pytest.fixture
def scene():
    generator = np.random.default_rng(0)
    base = np.array([[40, 50], [80, 50], [60, 70], [50, 90], [70, 90.0]])
    truth = base + generator.normal(size=(60, 1, 2)) * 6
    predicted = truth[:, [2, 0, 4]] + generator.normal(size=(60, 3, 2)) * 0.3
    return predicted[:40], truth[:40], predicted[40:], truth[40:]


def test_landmarks_find_their_points(scene):
    result = hungarian_accuracy(*scene, KIND)
    assert result.matched == (True, False, True, False, True)
    assert [result.landmark[point] for point in (0, 2, 4)] == [1, 0, 2]
    assert result.mean == 1
    assert result.mean_all == pytest.approx(3 / 5)
    assert result.landmark[3] == 2 or result.landmark[3] == 0
    json.dumps(result.to_json(), allow_nan=False)


def test_threshold_is_a_share_of_the_normaliser(scene):
    predicted_train, truth_train, predicted_test, truth_test = scene
    moved = truth_test[:, [2, 0, 4]] + np.array([0, 7.0])
    at = hungarian_accuracy(predicted_train, truth_train, moved, truth_test, KIND, threshold=7.01 / 40)
    below = hungarian_accuracy(predicted_train, truth_train, moved, truth_test, KIND, threshold=6.99 / 40)
    assert (at.mean, below.mean) == (1, 0)


def test_numbers_of_landmarks_do_not_matter(scene):
    order = [2, 0, 1]
    one, other = hungarian_accuracy(*scene, KIND), hungarian_accuracy(
        scene[0][:, order], scene[1], scene[2][:, order], scene[3], KIND
    )  # fmt: skip
    assert one.per_point == other.per_point
    assert [order[landmark] for landmark in other.landmark] == list(one.landmark)


def test_matching_is_frozen_on_training_images(scene):
    predicted_train, truth_train, predicted_test, truth_test = scene
    swapped = predicted_test[:, [1, 0, 2]]
    result = hungarian_accuracy(predicted_train, truth_train, swapped, truth_test, KIND)
    assert (result.per_point[0], result.per_point[2], result.per_point[4]) == (0, 0, 1)


def test_one_landmark_serves_one_point():
    # the first landmark is the nearest to both points, but the pairs are nearer in sum when it leaves one to the other
    truth = np.tile([[0.0, 0], [10, 0], [90, 90]], (3, 1, 1))
    predicted = np.tile([[1.0, 0], [-3, 0]], (3, 1, 1))
    result = hungarian_accuracy(predicted, truth, predicted, truth, KIND)
    assert result.landmark[:2] == (1, 0)
    assert result.matched == (True, True, False)


def test_a_missing_landmark_is_a_miss_and_a_missing_point_is_not(scene):
    predicted_train, truth_train, predicted_test, truth_test = (array.copy() for array in scene)
    predicted_test[:5, 1] = np.nan
    truth_test[5:10, 4], truth_test[:, 3] = np.nan, np.nan
    result = hungarian_accuracy(predicted_train, truth_train, predicted_test, truth_test, KIND)
    assert result.per_point[0] == pytest.approx(15 / 20)
    assert result.per_point[4] == 1
    assert result.per_point[3] is None


def test_a_landmark_without_training_image_takes_what_is_left(scene):
    predicted_train, truth_train, predicted_test, truth_test = (array.copy() for array in scene)
    predicted_train[:, 1] = np.nan
    result = hungarian_accuracy(predicted_train, truth_train, predicted_test, truth_test, KIND)
    assert (result.landmark[2], result.landmark[4]) == (0, 2)


def test_no_usable_image(scene):
    predicted_train, truth_train, predicted_test, truth_test = scene
    nothing = np.full_like(truth_test, np.nan)
    result = hungarian_accuracy(predicted_train, truth_train, predicted_test, nothing, KIND)
    assert result.mean is None
    assert result.per_point == (None,) * 5


def test_images_are_matched_in_chunks(monkeypatch):
    generator = np.random.default_rng(0)
    truth = generator.uniform(0, 128, (20, 68, 2))
    predicted = truth[:, ::9] + generator.normal(0, 3, (20, 8, 2))
    predicted[3, 2] = np.nan
    arguments = (predicted, truth, predicted, truth, "interocular_36_45")
    whole = hungarian_accuracy(*arguments)
    monkeypatch.setattr("uldscale.evaluation.accuracy.CHUNK", 7)
    assert hungarian_accuracy(*arguments) == whole
