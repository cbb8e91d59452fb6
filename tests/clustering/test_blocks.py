"""Work on blocks in threads."""

import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from uldscale.clustering import blocks


def blas_threads():
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_blocks_are_all_rows_in_order():
    rows = 3 * blocks.ROWS + 5
    assert np.concatenate([np.arange(rows)[block] for block in blocks.blocks(rows)]).tolist() == list(range(rows))
    assert [block.stop - block.start for block in blocks.blocks(rows)] == [blocks.ROWS] * 3 + [5]
    assert blocks.blocks(0) == []


def test_as_many_threads_as_blas_may_use_work_at_once():
    meet = threading.Barrier(3, timeout=60)

    def work(item):
        meet.wait()
        return item

    with threadpool_limits(limits=3, user_api="blas"):
        assert blocks.in_threads(work, [5, 2, 9]) == [5, 2, 9]


def test_one_thread_of_blas_is_one_of_ours():
    with threadpool_limits(limits=1):
        assert len(set(blocks.in_threads(lambda _: threading.get_ident(), range(4)))) == 1


def test_work_within_work_stays_in_its_thread():
    def inner(_):
        return blocks.in_threads(lambda _: threading.get_ident(), range(3))

    assert all(len(set(found)) == 1 for found in blocks.in_threads(inner, range(4)))


def test_blas_has_one_thread_inside_and_its_own_number_afterwards():
    with threadpool_limits(limits=2, user_api="blas"):
        assert blocks.in_threads(lambda _: blas_threads(), range(3)) == [{1}] * 3
        assert blas_threads() == {2}


def test_errors_come_out_and_leave_blas_as_it_was():
    with threadpool_limits(limits=2, user_api="blas"):
        with pytest.raises(ZeroDivisionError):
            blocks.in_threads(lambda item: 1 // item, [1, 0])
        assert blas_threads() == {2}
