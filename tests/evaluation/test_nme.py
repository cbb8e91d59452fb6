import dataclasses
import json
import math

import numpy as np
import pytest

from uldscale.evaluation import nme
from uldscale.evaluation.regression import column_means, complete, fill, fit

P68, P5, *_ = nme.protocols_for(68)
P68 = dataclasses.replace(P68, num_train=150, repeats=2)


@pytest.fixture(scope="module")
def faces():
    """Shapes of 68 points that move in six ways, and ten noisy landmarks of them with some missing."""
    generator = np.random.default_rng(0)
    base = generator.uniform(20, 108, (68, 2))
    base[36], base[45] = (40, 50), (88, 52)
    modes = generator.normal(size=(6, 68, 2))
    truth = base + np.einsum("nm,mpc->npc", 3 * generator.normal(size=(280, 6)), modes)
    predicted = truth[:, ::7] + 1.5 * generator.normal(size=(280, 10, 2))
    predicted[generator.random((280, 10)) < 0.1] = np.nan
    return predicted[:200], truth[:200], predicted[200:], truth[200:]


def by_definition(predicted_train, truth_train, predicted_test, truth_test, protocol, seed):
    """One image and one point at a time."""
    generator = np.random.default_rng(seed)
    forward, backward = [], []
    for _ in range(protocol.repeats):
        rows = np.sort(generator.permutation(len(truth_train))[: protocol.num_train])
        x, y = predicted_train[rows].reshape(len(rows), -1), truth_train[rows].reshape(len(rows), -1)
        regressor = fit(complete(x), complete(y), protocol.ridge_forward)
        errors = []
        for landmarks, points in zip(predicted_test, truth_test, strict=True):
            guess = regressor.predict(fill(landmarks.reshape(1, -1), column_means(x))).reshape(-1, 2)
            iod = math.dist(points[36], points[45])
            distances = [math.dist(a, b) / iod for a, b in zip(guess, points, strict=True) if not np.isnan(b).any()]
            errors.append(sum(distances) / len(distances))
        forward.append(sum(errors) / len(errors))
        per_landmark = []
        for k in range(predicted_train.shape[1]):
            here = ~np.isnan(x[:, 2 * k])
            regressor = fit(complete(y)[here], x[here, 2 * k : 2 * k + 2], protocol.ridge_backward)
            errors = []
            for landmarks, points in zip(predicted_test, truth_test, strict=True):
                if not np.isnan(landmarks[k]).any():
                    guess = regressor.predict(fill(points.reshape(1, -1), column_means(y)))[0]
                    errors.append(math.dist(guess, landmarks[k]) / math.dist(points[36], points[45]))
            per_landmark.append(sum(errors) / len(errors))
        backward.append(sum(per_landmark) / len(per_landmark))
    return 100 * sum(forward) / len(forward), 100 * sum(backward) / len(backward)


def test_against_the_definition(faces):
    result = nme.evaluate(*faces, P68, seed=4)
    assert (result.forward, result.backward) == pytest.approx(by_definition(*faces, P68, 4))
    assert (result.protocol, result.normaliser) == ("68pt-300", "interocular_36_45")
    assert (result.num_train, result.num_test, result.num_skipped) == (150, 80, 0)


def test_missing_annotations_against_the_definition(faces):
    predicted_train, truth_train, predicted_test, truth_test = (array.copy() for array in faces)
    generator = np.random.default_rng(1)
    truth_train[generator.random((200, 68)) < 0.05] = np.nan
    hidden = generator.random((80, 68)) < 0.05
    hidden[:, [36, 45]] = False
    truth_test[hidden] = np.nan
    arrays = predicted_train, truth_train, predicted_test, truth_test
    protocol = dataclasses.replace(P68, num_train=60, repeats=1)
    result = nme.evaluate(*arrays, protocol, seed=4)
    assert (result.forward, result.backward) == pytest.approx(by_definition(*arrays, protocol, 4))


def test_landmarks_that_are_a_linear_map_have_no_error(faces):
    _, truth_train, _, truth_test = faces
    protocol = dataclasses.replace(P5, ridge_forward=0, ridge_backward=0)
    train, test = (truth[:, ::5] * 0.5 + 7 for truth in (truth_train, truth_test))
    result = nme.evaluate(train, truth_train, test, truth_test, protocol, seed=0)
    assert result.forward < 1e-6
    result = nme.evaluate(
        nme.select_points(truth_train, P5), truth_train, nme.select_points(truth_test, P5), truth_test, protocol, seed=0
    )
    assert result.forward < 1e-6
    assert result.backward < 1e-6


def test_numbers_of_landmarks_do_not_matter(faces):
    predicted_train, truth_train, predicted_test, truth_test = faces
    order = np.random.default_rng(0).permutation(10)
    one = nme.evaluate(*faces, P5, seed=0)
    other = nme.evaluate(predicted_train[:, order], truth_train, predicted_test[:, order], truth_test, P5, seed=0)
    assert (other.forward, other.backward) == pytest.approx((one.forward, one.backward))
    assert other.backward_ced == pytest.approx(one.backward_ced)


def test_the_size_of_the_crop_does_not_matter(faces):
    one = nme.evaluate(*faces, P68, seed=0)
    other = nme.evaluate(*(3 * array for array in faces), P68, seed=0)
    assert (other.forward, other.backward) == pytest.approx((one.forward, one.backward))


def test_seed_decides_the_draws(faces):
    first, again, other = (nme.evaluate(*faces, P68, seed=seed).forward for seed in (0, 0, 1))
    assert first == again != other
    assert nme.evaluate(*faces, P5, seed=0).forward == nme.evaluate(*faces, P5, seed=1).forward


def test_too_few_images_are_all_used(faces):
    predicted_train, truth_train, predicted_test, truth_test = faces
    result = nme.evaluate(predicted_train[:50], truth_train[:50], predicted_test, truth_test, P68, seed=0)
    assert (result.protocol, result.num_train) == ("68pt-300", 50)


def test_mean_shape_is_the_error_of_the_mean(faces):
    _, truth_train, _, truth_test = faces
    five_train, five_test = nme.select_points(truth_train, P5), nme.select_points(truth_test, P5)
    distances = np.linalg.norm(five_test - five_train.mean(axis=0), axis=-1)
    expected = 100 * (distances / np.linalg.norm(five_test[:, :1] - five_test[:, 1:2], axis=-1)).mean()
    assert nme.mean_shape(truth_train, truth_test, P5, seed=0) == pytest.approx(expected)


def test_landmarks_that_say_nothing_do_as_the_mean_shape(faces):
    predicted_train, truth_train, predicted_test, truth_test = faces
    nothing = nme.evaluate(
        np.full_like(predicted_train, np.nan),
        truth_train,
        np.full_like(predicted_test, np.nan),
        truth_test,
        P68,
        seed=0,
    )
    assert nothing.forward == pytest.approx(nme.mean_shape(truth_train, truth_test, P68, seed=0))
    assert nothing.backward == 100
    assert nme.evaluate(*faces, P68, seed=0).forward < 0.7 * nothing.forward


@pytest.mark.parametrize(("split", "images"), [("train", 0), ("train", 1), ("test", 0)])
def test_a_landmark_that_is_never_learnt_or_seen_counts_whole(faces, split, images):
    predicted_train, truth_train, predicted_test, truth_test = (array.copy() for array in faces)
    before = nme.evaluate(*faces, P5, seed=0)
    (predicted_train if split == "train" else predicted_test)[images:, 3] = np.nan
    after = nme.evaluate(predicted_train, truth_train, predicted_test, truth_test, P5, seed=0)
    assert after.backward_ced[-2] == pytest.approx((after.backward * 10 - 100) / 9)
    assert after.backward_ced[-2] * 9 < before.backward * 10


def test_images_without_annotation_are_left_out(faces):
    predicted_train, truth_train, predicted_test, truth_test = (array.copy() for array in faces)
    truth_train[10:40], truth_test[5:25] = np.nan, np.nan
    result = nme.evaluate(predicted_train, truth_train, predicted_test, truth_test, P5, seed=0)
    rest = np.r_[0:10, 40:200], np.r_[0:5, 25:80]
    alone = nme.evaluate(
        predicted_train[rest[0]], truth_train[rest[0]], predicted_test[rest[1]], truth_test[rest[1]], P5, seed=0
    )
    assert result.to_json() == alone.to_json()
    assert (result.num_train, result.num_test, result.num_skipped) == (170, 60, 0)
    assert np.isnan(result.per_image_forward[5:25]).all()
    assert np.isfinite(result.per_image_forward[25:]).all()


def test_images_without_a_usable_normaliser_are_counted(faces):
    predicted_train, truth_train, predicted_test, truth_test = (array.copy() for array in faces)
    truth_test[0, 45] = truth_test[0, 36] + 0.5
    truth_test[1, 36] = np.nan
    result = nme.evaluate(predicted_train, truth_train, predicted_test, truth_test, P68, seed=0)
    assert (result.num_test, result.num_skipped) == (78, 2)
    assert np.isnan(result.per_image_forward[:2]).all()
    assert result.forward == pytest.approx(np.mean(result.per_image_forward[2:]))


def test_half_a_landmark_is_none(faces):
    predicted_train, truth_train, predicted_test, truth_test = (array.copy() for array in faces)
    whole = nme.evaluate(*faces, P5, seed=0)
    for predicted in (predicted_train, predicted_test):
        predicted[..., 0] = np.where(np.isnan(predicted[..., 0]), 5.0, predicted[..., 0])
    assert nme.evaluate(predicted_train, truth_train, predicted_test, truth_test, P5, seed=0) == whole


def test_cumulative_errors(faces):
    result = nme.evaluate(*faces, P68, seed=0)
    assert len(result.forward_ced) == 68
    assert len(result.backward_ced) == 10
    for curve, last in ((result.forward_ced, result.forward), (result.backward_ced, result.backward)):
        assert (np.diff(curve) >= 0).all()
        assert curve[-1] == pytest.approx(last)


def test_a_point_that_is_never_annotated_is_not_in_the_curve(faces):
    predicted_train, truth_train, predicted_test, truth_test = (array.copy() for array in faces)
    truth_test[:, 7] = np.nan
    assert len(nme.evaluate(predicted_train, truth_train, predicted_test, truth_test, P68, seed=0).forward_ced) == 67


def test_result_is_plain_json(faces):
    result = nme.evaluate(*faces, P68, seed=0).to_json()
    assert json.loads(json.dumps(result, allow_nan=False))["forward"] == result["forward"]
    assert "per_image_forward" not in result


def test_protocols_that_share_draws_have_the_numbers_that_each_has_alone(faces):
    protocols = nme.protocols_for(68)
    together = nme.evaluate_all(*faces, protocols, seed=3)
    assert together == {protocol.name: nme.evaluate(*faces, protocol, seed=3) for protocol in protocols}


@pytest.mark.parametrize("split", ["train", "test"])
def test_no_annotated_image_is_refused(faces, split):
    arrays = [array.copy() for array in faces]
    arrays[1 if split == "train" else 3][:] = np.nan
    with pytest.raises(ValueError, match="68pt-300 wants annotated images"):
        nme.evaluate(*arrays, P68, seed=0)


def test_detection_rate():
    predicted = np.zeros((4, 3, 2))
    predicted[0, 1], predicted[:, 2, 0] = np.nan, np.nan
    assert nme.detection_rate(predicted).tolist() == [1, 0.75, 0]


def test_by_yaw(faces):
    forward, backward = (1.0, 2.0, 4.0, math.nan, 8.0, 16.0, 32.0), (3.0, math.nan, 5.0, 1.0, 1.0, 2.0, 1.0)
    measured = nme.evaluate(*faces, P68, seed=0)
    result = dataclasses.replace(measured, per_image_forward=forward, per_image_backward=backward)
    bins = nme.by_yaw(result, np.array([0.0, -29.9, -30.0, 40.0, 61.0, -95.0, math.nan]))
    assert [(b.low, b.high, b.count, b.forward, b.backward) for b in bins] == [
        (0, 30, 2, 1.5, 3.0),
        (30, 60, 1, 4.0, 5.0),
        (60, 90, 2, 12.0, 1.5),
    ]


def test_errors_of_images_are_those_of_landmarks(faces):
    """With all landmarks on all images, the mean over images is the mean over landmarks."""
    predicted_train, truth_train, predicted_test, truth_test = faces
    whole = np.nan_to_num(predicted_test, nan=60.0)
    result = nme.evaluate(predicted_train, truth_train, whole, truth_test, P68, seed=0)
    assert np.mean(result.per_image_backward) == pytest.approx(result.backward)
