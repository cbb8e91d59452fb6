"""Which rows make up a batch: pure functions of sizes, seed, step and world.

Law: no state. A resumed run, or one with another number of workers, sees the batches that an undisturbed run would see.
"""

from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Scalar = TypeVar("Scalar", bound=np.generic)


def batch_rows(num_rows: int, batch: int, step: int, seed: int) -> Integers:
    """Positions (batch,) in 0 .. num_rows - 1 of the global batch at a step.

    Epochs are permutations laid end to end: each visits every position once, and a batch that does not divide
    `num_rows` goes on in the next epoch. Raises ValueError when there are no rows.
    """
    if num_rows < 1:
        raise ValueError(f"a batch of {batch} cannot be drawn from {num_rows} rows")
    stream = np.arange(step * batch, (step + 1) * batch)
    epochs, positions = np.divmod(stream, num_rows)
    return np.concatenate(
        [_permutation(num_rows, seed, int(epoch))[positions[epochs == epoch]] for epoch in np.unique(epochs)]
    )


def share(items: NDArray[Scalar], rank: int, world: int) -> NDArray[Scalar]:
    """The contiguous part of a rank; parts differ by one item when `world` does not divide their number."""
    part: NDArray[Scalar] = np.array_split(items, world)[rank]
    return part


def balanced_rows(labels: NDArray[np.integer], batch: int, step: int, seed: int) -> Integers:
    """Positions (batch,) in `labels` (N,), in groups of equal label: every label that is drawn is drawn at least twice.

    Pairs of one label are dealt out in rounds in which each label has its turn once, so that over time all labels have
    equal shares, and within a label all members. An odd batch makes its first pair a triple. Label -1 (none) and labels
    with a single member, which can't make a pair, are never drawn. Raises ValueError when no label is left or
    `batch` is 1.
    """
    values, counts = np.unique(labels, return_counts=True)
    values = values[(values >= 0) & (counts > 1)]
    if len(values) == 0 or batch < 2:
        raise ValueError(f"a batch of {batch} cannot hold pairs of equal label from label counts {counts.tolist()}")
    pairs = batch // 2
    turns = np.arange(step * pairs, (step + 1) * pairs) // len(values)
    drawn = values[batch_rows(len(values), pairs, step, seed)]
    sizes = [2 + batch % 2] + [2] * (pairs - 1)
    groups = [_group(labels, *turn, seed) for turn in zip(drawn.tolist(), turns.tolist(), sizes, strict=True)]
    return np.concatenate(groups)


def _group(labels: NDArray[np.integer], label: int, turn: int, size: int, seed: int) -> Integers:
    """Members of a label at its turn: neighbours in a permutation, which lasts for half as many turns as members."""
    members = np.flatnonzero(labels == label)
    epoch, pair = divmod(turn, len(members) // 2)
    return members[_permutation(len(members), seed, label, epoch)[(2 * pair + np.arange(size)) % len(members)]]


@lru_cache(maxsize=128)
def _permutation(count: int, *seeds: int) -> Integers:
    return np.random.default_rng(seeds).permutation(count)
