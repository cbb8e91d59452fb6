from itertools import permutations

import numpy as np
import pytest

from uldscale.clustering.matching import align, match_rows


@pytest.mark.parametrize("columns", [5, 7])
def test_match_rows_is_the_cheapest_of_all_matchings(columns):
    cost = np.random.default_rng(columns).random((5, columns))
    cheapest = min(sum(cost[range(5), choice]) for choice in permutations(range(columns), 5))
    chosen = match_rows(cost)
    assert len(set(chosen)) == 5
    assert cost[range(5), chosen].sum() == pytest.approx(cheapest)


def test_match_rows_wants_a_column_for_each_row():
    with pytest.raises(ValueError, match="got 3 rows and 2 columns"):
        match_rows(np.zeros((3, 2)))


@pytest.mark.parametrize("seed", range(5))
def test_align_undoes_a_permutation(seed):
    generator = np.random.default_rng(seed)
    old = generator.normal(size=(12, 6))
    new = (old + 0.05 * generator.normal(size=old.shape))[generator.permutation(12)]
    assert np.abs(new[align(new, old)] - old).max() < 0.3


def test_align_shares_out_when_two_want_the_same():
    old, new = np.array([[0.0], [1.0]]), np.array([[1.0], [5.0]])
    assert new[align(new, old)].ravel().tolist() == [1.0, 5.0]
