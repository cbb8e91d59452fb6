"""Work in this process: what a pool gives, without Ray."""

import pytest
import torch

from uldscale.runtime.alone import Alone, pool
from uldscale.runtime.roles import RuntimeConfig, Team

ALONE = RuntimeConfig(ray=False, extract=Team(count=2))


class Square:
    """Counts its setups."""

    setups = 0

    def setup(self) -> None:
        Square.setups += 1

    def process(self, item: int) -> tuple[int, int]:
        if item < 0:
            raise OSError("the disk is away")
        return item**2, torch.get_num_threads()


def test_all_items_in_order_by_one_worker() -> None:
    before, threads = Square.setups, torch.get_num_threads()
    with pool(Square, "extract", ALONE) as alone:
        assert isinstance(alone, Alone)
        found = [(done.item, done.result) for items in ([3, 1], [2]) for done in alone.run(items)]
    assert found == [(3, (9, 1)), (1, (1, 1)), (2, (4, 1))]
    assert Square.setups == before + 1
    assert torch.get_num_threads() == threads


def test_an_error_comes_out_as_it_is() -> None:
    with pool(Square, "extract", ALONE) as alone, pytest.raises(OSError, match="the disk is away"):
        list(alone.run([1, -1]))
