"""Which rows make up a batch: pure functions of rows, seed, step and world.

Law: no state but memory of what was computed. A resumed run, or one with another number of workers, sees the batches that
an undisturbed run would see; and a draw costs as much among a million rows as among a hundred.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Scalar = TypeVar("Scalar", bound=np.generic)

SHARDS_AT_A_TIME = 64
"""Shards whose rows are shuffled together: 8 GiB at 128 MiB each, so that a page cache or a bucket serves what is near."""

MEMBERS_AT_A_TIME = 16
"""The fewest members of a label that pairs are made of at a time; with few members a label goes through shards faster."""

PAIRS_AT_A_TIME = 4
"""The fewest pairs of a label that are drawn from a window."""


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


@dataclass(frozen=True)
class _Label:
    """A label with its members, who come in passes; a pass has blocks, each with members of shards that are near."""

    label: int
    members: Integers
    shards: Integers
    """(members,) the place of each member's shard among all shards."""
    pairs: int
    """In a pass."""
    blocks: int


class Balanced:
    """Rows in groups of equal label: every label that is drawn is drawn at least twice.

    Pairs of one label are dealt out in rounds in which each label has its turn once, so that over time all labels have
    equal shares, and within a label all members: at the end of a pass over all shards some have been drawn once more than
    others, but no two differ by more. Within a pass all labels go through the shards in one order, a window at a time.
    Label -1 (none) and labels with a single member, which can't make a pair, are never drawn.
    """

    def __init__(self, rows: Integers, labels: NDArray[np.integer[Any]], shard_rows: int, seed: int) -> None:
        """labels: (n,), those of `rows` (n,), shard_rows of them in a shard. Raises ValueError when no label has two members."""
        names, counts = np.unique(labels[labels >= 0], return_counts=True)
        self._shards, shards = np.unique(rows // shard_rows, return_inverse=True)
        usual = -(-int(counts[counts > 1].sum()) // (2 * max(1, int((counts > 1).sum()))))
        parts = [(int(name), np.flatnonzero(labels == name)) for name in names[counts > 1]]
        self._labels = [self._label(name, rows[part], shards[part], usual) for name, part in parts]
        self._seed = seed
        self._pairs = lru_cache(maxsize=2 * len(parts))(self._pass)
        if not parts:
            counts = np.unique(labels, return_counts=True)[1]
            raise ValueError(f"a batch cannot hold pairs of equal label from label counts {counts.tolist()}")

    def draw(self, batch: int, step: int) -> Integers:
        """Rows (batch,) of the global batch at a step; an odd batch makes its first pair a triple. batch >= 2."""
        if batch < 2:
            raise ValueError(f"a batch of {batch} cannot hold pairs of equal label")
        pairs, count = batch // 2, len(self._labels)
        rounds, places = np.divmod(np.arange(step * pairs, (step + 1) * pairs), count)
        sizes = [2 + batch % 2] + [2] * (pairs - 1)
        turns = zip(rounds.tolist(), places.tolist(), sizes, strict=True)
        return np.concatenate([self._group(turn, place, size) for turn, place, size in turns])

    def _label(self, name: int, members: Integers, shards: Integers, usual: int) -> _Label:
        """`usual`: pairs of a pass in which as many rows are drawn as there are."""
        windows = -(-len(self._shards) // SHARDS_AT_A_TIME)
        blocks = min(windows, len(members) // MEMBERS_AT_A_TIME, usual // PAIRS_AT_A_TIME)
        if blocks > 1:
            return _Label(name, members, shards, usual, blocks)
        # Nothing has to keep pace with others: a pass is the shortest in which all members have equal shares.
        return _Label(name, members, shards, len(members) // (2 - len(members) % 2), 1)

    def _group(self, turn: int, place: int, size: int) -> Integers:
        """The pair of a label at a turn, or that and the next member that is neither of the two."""
        place = int(_permutation(len(self._labels), self._seed, turn)[place])
        number, pair = divmod(turn, self._labels[place].pairs)
        pairs = self._pairs(place, number)
        group: Integers = pairs[pair]
        if size == 3:
            others = np.roll(pairs, -1 - pair, axis=0).reshape(-1)
            strangers = others[~np.isin(others, group)]
            group = np.append(group, (strangers if len(strangers) else others)[0])
        return group

    def _pass(self, place: int, number: int) -> Integers:
        """All pairs (n, 2) of a label in a pass, in the order in which they are drawn.

        Who is drawn: those who come next in an endless row of permutations. When: in the order of their shards.
        """
        known = self._labels[place]
        drawn = self._next(known, number)
        random = np.random.default_rng((len(known.members), self._seed, known.label, number))
        rank = random.permutation(len(known.members))
        turns = _permutation(len(self._shards), self._seed, number)
        near = drawn[np.lexsort((rank[drawn], turns[known.shards[drawn]]))]
        blocks = np.array_split(near.reshape(-1, 2), known.blocks)
        pairs = np.concatenate([random.permutation(_paired(block, rank)) for block in blocks])
        members: Integers = known.members[pairs]
        return members

    def _next(self, known: _Label, number: int) -> Integers:
        """Places of the members that are drawn in a pass, a member as often as it has its turn."""
        size = len(known.members)
        epochs, places = np.divmod(np.arange(2 * known.pairs * number, 2 * known.pairs * (number + 1)), size)
        parts = [places[epochs == epoch] for epoch in np.unique(epochs)]
        orders = [_permutation(size, self._seed, known.label, int(epoch)) for epoch in np.unique(epochs)]
        return np.concatenate([order[part] for order, part in zip(orders, parts, strict=True)])


def _paired(block: Integers, rank: Integers) -> Integers:
    """Pairs (n, 2) of different members, of whom none is in a block (n, 2) more than n times."""
    return block.reshape(-1)[np.argsort(rank[block.reshape(-1)], kind="stable")].reshape(2, -1).T


def share(items: NDArray[Scalar], rank: int, world: int) -> NDArray[Scalar]:
    """The contiguous part of a rank; parts differ by one item when `world` does not divide their number."""
    part: NDArray[Scalar] = np.array_split(items, world)[rank]
    return part


@lru_cache(maxsize=128)
def _permutation(count: int, *seeds: int) -> Integers:
    return np.random.default_rng(seeds).permutation(count)
