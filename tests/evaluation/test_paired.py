"""Differences of errors on the same images."""

import numpy as np

from uldscale.evaluation.paired import difference


def test_the_interval_is_that_of_differences_and_not_of_errors() -> None:
    """Errors spread by 10 from image to image; theirs are 0.5 larger on each, give or take 1."""
    random = np.random.default_rng(0)
    ours = random.normal(20, 10, 400)
    found = difference(ours, ours + random.normal(0.5, 1, 400), seed=0)
    assert found is not None
    assert found.low < found.mean < found.high < 0
    assert abs(found.mean + 0.5) < 0.15
    # 1.96 standard errors of the mean on each side.
    np.testing.assert_allclose(found.high - found.low, 2 * 1.96 / 20, rtol=0.15)


def test_methods_that_are_equal_on_the_whole_have_zero_in_between() -> None:
    random = np.random.default_rng(1)
    found = difference(random.normal(size=200), random.normal(size=200), seed=0)
    assert found is not None
    assert found.low < 0 < found.high


def test_only_images_with_both_errors_count() -> None:
    found = difference([1.0, np.nan, 3.0], [2.0, 5.0, np.nan], seed=0)
    assert found is not None
    assert (found.mean, found.low, found.high, found.images) == (-1.0, -1.0, -1.0, 1)
    assert difference([np.nan], [1.0], seed=0) is None
