"""Which rows make up a batch: pure functions of rows, seed, step and world.

Law: no state but memory of what was computed. A resumed run, or one with another number of workers, sees the batches that
an undisturbed run would see; and a draw costs as much among a million rows as among a hundred.
"""

from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Scalar = TypeVar("Scalar", bound=np.generic)

SHARDS_AT_A_TIME = 64
"""Shards whose rows are shuffled together: 8 GiB at 128 MiB each, so that a page cache or a bucket serves what is near."""


class Shuffled:
    """Rows in random order, epoch after epoch; a window of shards at a time, in another order of shards each epoch."""

    def __init__(self, rows: Integers, shard_rows: int, seed: int) -> None:
        """rows: (n,) of the store, shard_rows of them in a shard. Raises ValueError when there are none."""
        if len(rows) == 0:
            raise ValueError("a batch cannot be drawn from 0 rows")
        self._rows, self._seed = rows, seed
        self._shards = np.unique(rows // shard_rows, return_inverse=True)[1]
        self._epoch = lru_cache(maxsize=2)(self._order)

    def draw(self, batch: int, step: int) -> Integers:
        """Rows (batch,) of the global batch at a step.

        Epochs are laid end to end: each visits every row once, and a batch that does not divide them goes on in the next.
        """
        epochs, places = np.divmod(np.arange(step * batch, (step + 1) * batch), len(self._rows))
        return np.concatenate([self._epoch(int(epoch))[places[epochs == epoch]] for epoch in np.unique(epochs)])

    def _order(self, epoch: int) -> Integers:
        random = np.random.default_rng((len(self._rows), self._seed, epoch))
        turns = random.permutation(int(self._shards.max()) + 1)
        window = turns[self._shards] // SHARDS_AT_A_TIME
        return self._rows[np.lexsort((random.random(len(self._rows)), window))]


class Balanced:
    """Rows in groups of equal label: every label that is drawn is drawn at least twice.

    Pairs of one label are dealt out in rounds in which each label has its turn once, so that over time all labels have
    equal shares, and within a label all members. Label -1 (none) and labels with a single member, which can't make a
    pair, are never drawn.
    """

    def __init__(self, rows: Integers, labels: NDArray[np.integer[Any]], seed: int) -> None:
        """labels: (n,), those of `rows` (n,). Raises ValueError when no label has two members."""
        found = [(int(label), rows[labels == label]) for label in np.unique(labels) if label >= 0]
        self._members = [(label, members) for label, members in found if len(members) > 1]
        self._seed = seed
        if not self._members:
            counts = np.unique(labels, return_counts=True)[1].tolist()
            raise ValueError(f"a batch cannot hold pairs of equal label from label counts {counts}")

    def draw(self, batch: int, step: int) -> Integers:
        """Rows (batch,) of the global batch at a step; an odd batch makes its first pair a triple. batch >= 2."""
        if batch < 2:
            raise ValueError(f"a batch of {batch} cannot hold pairs of equal label")
        pairs, count = batch // 2, len(self._members)
        rounds, places = np.divmod(np.arange(step * pairs, (step + 1) * pairs), count)
        sizes = [2 + batch % 2] + [2] * (pairs - 1)
        turns = zip(rounds.tolist(), places.tolist(), sizes, strict=True)
        return np.concatenate([self._group(turn, place, size) for turn, place, size in turns])

    def _group(self, turn: int, place: int, size: int) -> Integers:
        """Neighbours in a permutation of the members of a label, which lasts for half as many turns as members."""
        label, members = self._members[_permutation(len(self._members), self._seed, turn)[place]]
        epoch, pair = divmod(turn, len(members) // 2)
        order = _permutation(len(members), self._seed, label, epoch)
        group: Integers = members[order[(2 * pair + np.arange(size)) % len(members)]]
        return group


def share(items: NDArray[Scalar], rank: int, world: int) -> NDArray[Scalar]:
    """The contiguous part of a rank; parts differ by one item when `world` does not divide their number."""
    part: NDArray[Scalar] = np.array_split(items, world)[rank]
    return part


@lru_cache(maxsize=128)
def _permutation(count: int, *seeds: int) -> Integers:
    return np.random.default_rng(seeds).permutation(count)
