"""Batches as pure functions: epochs, shares and pose balance."""

import numpy as np
import pytest

from uldscale.store import sampling
from uldscale.store.sampling import Balanced, Integers, Shuffled, share


def batch_rows(num_rows: int, batch: int, step: int, seed: int) -> Integers:
    return Shuffled(np.arange(num_rows), 3, seed).draw(batch, step)


def balanced_rows(labels: Integers, batch: int, step: int, seed: int) -> Integers:
    return Balanced(np.arange(len(labels)), labels, 3, seed).draw(batch, step)


SIZES = [(1, 1), (1, 5), (7, 2), (10, 5), (10, 10), (13, 4), (64, 48), (5, 12)]
"""(rows, batch): batches that divide the rows, that don't, and that are larger."""


@pytest.mark.parametrize(("num_rows", "batch"), SIZES)
@pytest.mark.parametrize("seed", [0, 7])
def test_every_epoch_visits_each_row_once(num_rows: int, batch: int, seed: int) -> None:
    steps = -(-4 * num_rows // batch)
    stream = np.concatenate([batch_rows(num_rows, batch, step, seed) for step in range(steps)])
    assert stream.shape == (steps * batch,)
    for epoch in stream[: 4 * num_rows].reshape(4, num_rows):
        assert sorted(epoch) == list(range(num_rows))


def test_epochs_and_seeds_differ() -> None:
    epochs = [tuple(batch_rows(50, 50, step, seed)) for step in range(5) for seed in range(5)]
    assert len(set(epochs)) == 25


def test_any_step_is_computed_without_the_steps_before() -> None:
    later = batch_rows(13, 4, 1000, 3)
    batch_rows(13, 4, 2, 3)
    np.testing.assert_array_equal(later, batch_rows(13, 4, 1000, 3))
    # The stream does not depend on how it is cut into batches, so the epoch stays the same when the batch grows.
    np.testing.assert_array_equal(
        np.concatenate([batch_rows(13, 4, step, 3) for step in (2, 3)]), batch_rows(13, 8, 1, 3)
    )


def test_rows_are_those_that_were_given() -> None:
    rows = np.array([3, 8, 9, 200])
    assert sorted(Shuffled(rows, 5, 0).draw(4, 7)) == rows.tolist()
    assert set(Balanced(rows, np.array([0, 1, 0, -1]), 5, 0).draw(8, 7)) == {3, 9}


def test_an_epoch_goes_through_windows_of_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each window holds all rows of some shards, shuffled; other shards meet in the next epoch."""
    monkeypatch.setattr(sampling, "SHARDS_AT_A_TIME", 2)
    source = Shuffled(np.arange(60), 10, 0)
    epochs = [source.draw(60, epoch).reshape(3, 20) for epoch in range(3)]
    windows = [{frozenset((window // 10).tolist()) for window in epoch} for epoch in epochs]
    assert all(len(shards) == 2 for epoch in windows for shards in epoch)
    assert len({frozenset(epoch) for epoch in windows}) > 1
    assert all(np.abs(np.diff(window)).mean() > 3 for epoch in epochs for window in epoch)


def test_a_batch_can_be_changed_without_harm() -> None:
    wanted = batch_rows(6, 6, 0, 0).copy()
    batch_rows(6, 6, 0, 0)[:] = -5
    np.testing.assert_array_equal(batch_rows(6, 6, 0, 0), wanted)


@pytest.mark.parametrize("num_rows", [100, 100_000])
def test_an_epoch_is_shuffled_once_however_many_batches_it_has(monkeypatch: pytest.MonkeyPatch, num_rows: int) -> None:
    """So that the work of a drawn row is that of one place in one permutation, among few rows and among many."""
    orders: list[int] = []
    shuffle = Shuffled._order
    monkeypatch.setattr(Shuffled, "_order", lambda self, epoch: orders.append(epoch) or shuffle(self, epoch))
    source, batch = Shuffled(np.arange(num_rows), 10, 0), num_rows // 50
    for step in range(3 * 50):
        source.draw(batch, step)
    assert orders == [0, 1, 2]


def test_no_rows() -> None:
    with pytest.raises(ValueError, match="cannot be drawn from 0 rows"):
        batch_rows(0, 4, 0, 0)


@pytest.mark.parametrize("world", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("count", [1, 12, 13])
def test_shares_are_the_batch(count: int, world: int) -> None:
    items = np.arange(count) * 10
    parts = [share(items, rank, world) for rank in range(world)]
    np.testing.assert_array_equal(np.concatenate(parts), items)
    assert max(map(len, parts)) - min(map(len, parts)) <= (count % world > 0)


LABELS = np.array([0] * 31 + [3] * 10 + [-1] * 9 + [5] * 7 + [1] * 2 + [4])
"""A large label, small ones, one of a single member (4), and images without a label."""


@pytest.mark.parametrize("batch", [2, 3, 4, 7, 8, 16, 33, 100])
@pytest.mark.parametrize("seed", [0, 7])
def test_balanced_batches_hold_groups_of_equal_label(batch: int, seed: int) -> None:
    for step in range(20):
        rows = balanced_rows(LABELS, batch, step, seed)
        drawn, counts = np.unique(LABELS[rows], return_counts=True)
        assert rows.shape == (batch,)
        assert counts.min() >= 2
        assert set(drawn) <= {0, 1, 3, 5}
        np.testing.assert_array_equal(rows, balanced_rows(LABELS, batch, step, seed))


@pytest.mark.parametrize("batch", [2, 8, 10, 32])
def test_labels_get_equal_shares(batch: int) -> None:
    steps = 4 * 25
    drawn = np.concatenate([LABELS[balanced_rows(LABELS, batch, step, 0)] for step in range(steps)])
    values, counts = np.unique(drawn, return_counts=True)
    np.testing.assert_array_equal(values, [0, 1, 3, 5])
    np.testing.assert_array_equal(counts, steps * batch // 4)


def test_members_of_a_label_get_equal_shares() -> None:
    labels = np.array([0] * 8 + [1] * 6)
    rows = np.concatenate([balanced_rows(labels, 4, step, 0) for step in range(4 * 3)])
    np.testing.assert_array_equal(np.bincount(rows), [3] * 8 + [4] * 6)


def test_partners_change_from_epoch_to_epoch() -> None:
    labels = np.zeros(8, int)
    epochs = [
        {tuple(sorted(balanced_rows(labels, 2, step, 0))) for step in range(start, start + 4)} for start in (0, 4, 8)
    ]
    assert all(sorted(sum(pairs, ())) == list(range(8)) for pairs in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_no_image_is_paired_with_itself() -> None:
    for step in range(200):
        pairs = balanced_rows(LABELS, 8, step, 0).reshape(-1, 2)
        assert (pairs[:, 0] != pairs[:, 1]).all()


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> tuple[Balanced, Integers]:
    """A source of 1,200 rows in 40 shards, 4 at a time, and their labels, of which one is rare, and one is that of a pair."""
    monkeypatch.setattr(sampling, "SHARDS_AT_A_TIME", 4)
    labels = np.random.default_rng(0).choice(4, 1200, p=[0.5, 0.3, 0.16, 0.04])
    labels[[3, 700]] = 9
    return Balanced(np.arange(1200), labels, 30, 0), labels


PASS = 120
"""Rounds in which 1,200 rows are drawn, of 5 labels in pairs."""


def test_labels_go_through_windows_of_shards_together(windows: tuple[Balanced, Integers]) -> None:
    source, labels = windows
    for start in range(0, 3 * PASS, PASS // 10):
        rows = source.draw(10 * PASS // 10, start // (PASS // 10))
        near = np.unique(rows[labels[rows] < 3] // 30)
        assert len(near) <= 3 * 4, "a tenth of a pass is a tenth of the shards, and a bit"
    whole = np.concatenate([source.draw(10, step) for step in range(PASS)])
    assert len(np.unique(whole // 30)) == 40


def test_windows_change_no_share(windows: tuple[Balanced, Integers]) -> None:
    source, labels = windows
    rows = np.concatenate([source.draw(10, step) for step in range(7 * PASS)])
    np.testing.assert_array_equal(np.bincount(labels[rows])[[0, 1, 2, 3, 9]], 7 * PASS * 2)
    drawn = np.bincount(rows, minlength=1200)
    for label in np.unique(labels):
        assert np.ptp(drawn[labels == label]) <= 1


def test_windows_pair_nobody_with_itself(windows: tuple[Balanced, Integers]) -> None:
    source, labels = windows
    pairs = np.concatenate([source.draw(10, step) for step in range(7 * PASS)]).reshape(-1, 2)
    assert (pairs[:, 0] != pairs[:, 1]).all()
    assert (labels[pairs[:, 0]] == labels[pairs[:, 1]]).all()
    triples = np.stack([source.draw(11, step)[:3] for step in range(PASS)])
    assert all(len(set(triple)) == 3 for triple in triples.tolist() if labels[triple[0]] != 9)


def test_a_step_in_a_window_is_computed_without_the_steps_before(windows: tuple[Balanced, Integers]) -> None:
    source, labels = windows
    other = Balanced(np.arange(1200), labels, 30, 0)
    for step in (1000, 3, 130, 1):
        np.testing.assert_array_equal(source.draw(12, step), other.draw(12, step))
    assert len({tuple(np.sort(source.draw(10, step * PASS))) for step in range(10)}) == 10


@pytest.mark.parametrize("sizes", [[2, 2], [3, 2], [2, 500], [3, 16, 500], [31, 33, 1000]])
@pytest.mark.parametrize("shard_rows", [1, 7])
def test_pairs_of_labels_of_any_size(monkeypatch: pytest.MonkeyPatch, sizes: list[int], shard_rows: int) -> None:
    monkeypatch.setattr(sampling, "SHARDS_AT_A_TIME", 2)
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(len(sizes)), sizes))
    source = Balanced(np.arange(len(labels)), labels, shard_rows, 3)
    pairs = np.concatenate([source.draw(2, step) for step in range(3000)]).reshape(-1, 2)
    assert (pairs[:, 0] != pairs[:, 1]).all()
    assert (labels[pairs[:, 0]] == labels[pairs[:, 1]]).all()


def test_balanced_batches_differ_by_step_and_seed() -> None:
    assert len({tuple(balanced_rows(LABELS, 16, step, seed)) for step in range(5) for seed in range(5)}) == 25


@pytest.mark.parametrize(("labels", "batch"), [([-1, -1, -1], 2), ([0, 1, 2], 2), ([], 2), ([0, 0], 1)])
def test_batches_without_pairs_are_refused(labels: list[int], batch: int) -> None:
    with pytest.raises(ValueError, match="cannot hold pairs of equal label"):
        balanced_rows(np.array(labels, int), batch, 0, 0)
