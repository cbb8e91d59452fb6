"""A budget: never more is out than there is, and everybody gets a turn."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uldscale.data.budget import Budget


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 10), max_size=60))
def test_shares_never_exceed_the_whole_and_all_are_had(wishes: list[int]) -> None:
    budget, lock, out, most = Budget(10), threading.Lock(), [0], [0]

    def work(amount: int) -> int:
        with budget.share(amount):
            with lock:
                out[0] += amount
                most[0] = max(most[0], out[0])
            time.sleep(0.001)
            with lock:
                out[0] -= amount
        return amount

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, wishes)) == wishes
    assert most[0] <= 10


def test_a_share_comes_back_after_an_error() -> None:
    budget = Budget(1)
    for _ in range(2):
        with pytest.raises(KeyError), budget.share(1):
            raise KeyError
    with budget.share(1):
        pass
