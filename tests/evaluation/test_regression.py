import numpy as np
import pytest
from sklearn.linear_model import Ridge

from uldscale.evaluation import regression


@pytest.fixture
def data():
    generator = np.random.default_rng(0)
    sources = generator.uniform(0, 128, (80, 12))
    targets = sources @ generator.normal(size=(12, 6)) / 4 + generator.normal(size=(80, 6))
    return sources, targets


def by_definition(sources, targets, new, ridge, scale):
    """The regressor of the reference evaluators, step by step."""
    x, y = sources / scale - 0.5, targets / scale - 0.5
    x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
    x, y = x - x_mean, y - y_mean
    gram = x.T @ x
    matrix = (y.T @ x) @ np.linalg.inv(gram + ridge * (np.max(gram) + 1e-12) * np.eye(len(gram)))
    return np.array([scale * (matrix @ (row / scale - 0.5 - x_mean) + y_mean + 0.5) for row in new])


@pytest.mark.parametrize("ridge", [1e-5, 0.01, 0.1])
@pytest.mark.parametrize("scale", [1, 32, 256])
def test_against_the_definition(data, ridge, scale):
    sources, targets = data
    new = np.random.default_rng(1).uniform(0, 128, (7, 12))
    predicted = regression.fit(sources, targets, ridge, scale).predict(new)
    np.testing.assert_allclose(predicted, by_definition(sources, targets, new, ridge, scale), rtol=1e-8)


def test_is_ridge_regression_with_an_alpha_relative_to_the_data(data):
    sources, targets = data
    centred = sources - sources.mean(axis=0)
    reference = Ridge(alpha=0.01 * (centred.T @ centred).max()).fit(sources, targets)
    np.testing.assert_allclose(regression.fit(sources, targets, 0.01).predict(sources), reference.predict(sources))


def test_linear_data_without_ridge_has_no_error(data):
    sources, _ = data
    targets = sources @ np.random.default_rng(2).normal(size=(12, 4)) + 3
    np.testing.assert_allclose(regression.fit(sources, targets, 0).predict(sources), targets, atol=1e-8)


def test_degenerate_sources_without_ridge_still_fit(data):
    sources, targets = data
    doubled = np.concatenate([sources, sources], axis=1)
    one, two = regression.fit(sources, targets, 0), regression.fit(doubled, targets, 0)
    np.testing.assert_allclose(one.predict(sources), two.predict(doubled), atol=1e-6)


def test_an_offset_of_all_sources_changes_nothing(data):
    sources, targets = data
    moved = regression.fit(sources + 40, targets, 0.01).predict(sources + 40)
    np.testing.assert_allclose(moved, regression.fit(sources, targets, 0.01).predict(sources))


def test_neither_duplication_nor_unit_changes_the_ridge(data):
    sources, targets = data
    once = regression.fit(sources, targets, 0.01).predict(sources)
    twice = regression.fit(np.tile(sources, (2, 1)), np.tile(targets, (2, 1)), 0.01).predict(sources)
    smaller = regression.fit(sources / 128, targets / 128, 0.01).predict(sources / 128)
    np.testing.assert_allclose(twice, once)
    np.testing.assert_allclose(128 * smaller, once)


def test_a_strong_ridge_predicts_the_mean(data):
    sources, targets = data
    predicted = regression.fit(sources, targets, 1e9).predict(sources)
    np.testing.assert_allclose(predicted, np.broadcast_to(targets.mean(axis=0), targets.shape), atol=1e-5)


@pytest.mark.parametrize("ridge", [0, 0.01])
def test_constant_sources_predict_the_mean(data, ridge):
    _, targets = data
    predicted = regression.fit(np.zeros((80, 2)), targets, ridge).predict(np.zeros((1, 2)))
    np.testing.assert_allclose(predicted[0], targets.mean(axis=0))


def with_holes(rows=120, share=0.2, seed=0):
    generator = np.random.default_rng(seed)
    truth = generator.normal(size=(rows, 3)) @ generator.normal(size=(3, 16)) * 5 + generator.uniform(20, 100, 16)
    holes = np.repeat(generator.random((rows, 8)) < share, 2, axis=1)
    return truth, holes, np.where(holes, np.nan, truth)


def plain_thresholding(matrix):
    """Singular value thresholding with the full decomposition."""
    known = ~np.isnan(matrix)
    observed = np.where(known, matrix, 0)
    dual = np.zeros_like(observed)
    for _ in range(1000):
        left, singular, right = np.linalg.svd(dual, full_matrices=False)
        guess = left * np.maximum(singular - 5 * sum(matrix.shape) / 2, 0) @ right
        if np.linalg.norm((guess - observed)[known]) / np.linalg.norm(observed[known]) < 1e-2:
            break
        dual[known] += 1.2 * matrix.size / known.sum() * (observed - guess)[known]
    return guess


def test_completion_is_singular_value_thresholding():
    _, holes, matrix = with_holes()
    scale = np.nanmax(np.abs(matrix))
    guess = scale * plain_thresholding(matrix / scale)
    np.testing.assert_allclose(regression.complete(matrix)[holes], guess[holes], rtol=1e-6)


def test_completion_beats_the_mean_on_low_rank():
    truth, holes, matrix = with_holes()
    guess = regression.complete(matrix)
    mean = regression.fill(matrix, regression.column_means(matrix))
    assert np.abs(guess - truth)[holes].mean() < 0.3 * np.abs(mean - truth)[holes].mean()


def test_completion_keeps_what_is_known_to_the_bit():
    truth, holes, matrix = with_holes()
    guess = regression.complete(matrix)
    assert (guess[~holes] == truth[~holes]).all()
    assert np.isfinite(guess).all()
    assert (regression.complete(truth) == truth).all()


def test_completion_knows_no_unit_and_no_direction():
    _, _, matrix = with_holes()
    guess = regression.complete(matrix)
    np.testing.assert_allclose(regression.complete(matrix / 128), guess / 128)
    np.testing.assert_allclose(regression.complete(matrix.T), guess.T)


@pytest.mark.filterwarnings("error")
def test_a_column_that_nobody_knows_becomes_zero():
    _, _, matrix = with_holes()
    matrix[:, 4:6] = np.nan
    assert np.abs(regression.complete(matrix)[:, 4:6]).max() < 1e-9
    assert (regression.complete(np.full((4, 3), np.nan)) == 0).all()
    assert regression.column_means(matrix)[4] == 0


def test_column_means_and_fill():
    matrix = np.array([[1.0, np.nan], [3.0, 8.0], [np.nan, np.nan]])
    assert regression.column_means(matrix).tolist() == [2, 8]
    assert regression.fill(matrix, np.array([2.0, 8.0])).tolist() == [[1, 8], [3, 8], [2, 8]]
