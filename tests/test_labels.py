"""Rounds of pseudo-labels: what comes back, whoever wrote it; what a crash leaves, what is kept."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr

from uldscale import labels
from uldscale.errors import IncompleteError, StoreError
from uldscale.labels import BLOCKS, LEAST_BLOCK, Exemplars, Labels, blocks, latest_round, prune

ROWS, LANDMARKS = 100, 3
LABELLING = {"clusters/centroids": np.ones((2, LANDMARKS, 4), np.float32), "turned": np.arange(6.0).reshape(2, 3).T}


def exemplars(rows: np.ndarray, latent: int = 5) -> Exemplars:
    """Of the even ones among some rows."""
    rows = rows[rows % 2 == 0]
    found = Exemplars.none(rows, LANDMARKS, latent)
    found.points[:, :2] = np.stack([rows / ROWS, 1 - rows / ROWS], -1)[:, None]
    found.scores[:, :2], found.poses[:], found.codes[:] = 0.5, rows % 4, rows[:, None]
    return found


def write(folder: Path, number: int, *, latent: int = 5, order: int = 1, valid: bool = True) -> None:
    labels.write_labelling(str(folder), number, LABELLING)
    made = Labels.create(str(folder), number, ROWS, LANDMARKS, latent)
    for block in blocks(ROWS)[::order]:
        made.write(block, exemplars(np.array(block), latent))
    if valid:
        made.commit({"churn": 0.5})


@pytest.mark.parametrize("latent", [5, 0])
def test_round_trip(tmp_path: Path, latent: int) -> None:
    write(tmp_path, 3, latent=latent)
    found, wanted = Labels.open(str(tmp_path)), exemplars(np.arange(ROWS))
    assert (found.number, found.count, found.posed) == (3, LANDMARKS, False)
    np.testing.assert_array_equal(found.points(wanted.rows), wanted.points)
    np.testing.assert_array_equal(found.poses[wanted.rows], wanted.poses)
    odd = np.arange(1, ROWS, 2)
    assert np.isnan(found.points(odd)).all()
    assert (found.poses[odd] == -1).all()
    for name, values in LABELLING.items():
        np.testing.assert_array_equal(found.labelling[name], values)


def test_anyone_can_read_the_arrays(tmp_path: Path) -> None:
    write(tmp_path, 0)
    group = zarr.open_group(tmp_path / "00000/rows.zarr", mode="r")
    assert {name: (array.shape, str(array.dtype)) for name, array in group.arrays()} == {
        "points": ((ROWS, LANDMARKS, 2), "float32"), "scores": ((ROWS, LANDMARKS), "float32"), "poses": ((ROWS,), "int16"),
        "codes": ((ROWS, 5), "float32"),
    }  # fmt: skip
    assert group["codes"][4, 0] == 4


def test_the_order_and_number_of_writers_change_no_byte(
    tmp_path: Path, content: Callable[[str], dict[str, bytes]]
) -> None:
    write(tmp_path / "one", 0)
    write(tmp_path / "other", 0, order=-1)
    write(tmp_path / "other", 0)
    assert content(str(tmp_path / "one")) == content(str(tmp_path / "other"))


@pytest.mark.parametrize("num_rows", [1, 31, 100, 5000, 230_000, 1_000_000, 100_000_000])
def test_blocks_are_all_rows_once(num_rows: int) -> None:
    found = blocks(num_rows)
    assert [block.start for block in found] == [0, *(block.stop for block in found[:-1])]
    assert found[-1].stop == num_rows
    assert len(found) <= BLOCKS
    assert len(found) > BLOCKS / 3 or len(found[0]) <= max(LEAST_BLOCK, 5)


def test_rounds_are_read_by_number(tmp_path: Path) -> None:
    assert latest_round(str(tmp_path)) is None
    for number in (0, 1, 2):
        write(tmp_path, number)
        assert latest_round(str(tmp_path)) == number
    assert Labels.open(str(tmp_path), 1).number == 1
    assert Labels.open(str(tmp_path)).number == 2


def test_a_crash_leaves_the_round_before(tmp_path: Path) -> None:
    write(tmp_path, 0)
    write(tmp_path, 1, valid=False)
    assert Labels.open(str(tmp_path)).number == 0
    with pytest.raises(IncompleteError, match=r"round 1 is missing, there are \[0\]"):
        Labels.open(str(tmp_path), 1)
    write(tmp_path, 1)
    assert Labels.open(str(tmp_path)).number == 1


def test_a_round_begun_anew_may_have_another_shape(tmp_path: Path) -> None:
    write(tmp_path, 0, latent=7, valid=False)
    write(tmp_path, 0)
    assert Labels.open(str(tmp_path)).number == 0


def test_no_round_is_there(tmp_path: Path) -> None:
    with pytest.raises(IncompleteError, match="no round is finished; run the job again"):
        Labels.open(str(tmp_path / "labels"))


def test_damage_is_no_label(tmp_path: Path) -> None:
    write(tmp_path, 0)
    (chunk, *_) = sorted(
        path for path in (tmp_path / "00000/rows.zarr/points").rglob("*") if path.name != "zarr.json" and path.is_file()
    )
    chunk.write_bytes(b"?" + chunk.read_bytes()[1:])
    with pytest.raises(StoreError, match="is damaged; remove the run's labels and checkpoints"):
        Labels.open(str(tmp_path)).points(np.array([0]))


@pytest.mark.parametrize(("keep", "left"), [(0, [2, 4]), (1, [2, 4]), (2, [2, 3, 4]), (9, [0, 1, 2, 3, 4])])
def test_pruning_keeps_the_newest_and_those_in_use(tmp_path: Path, keep: int, left: list[int]) -> None:
    for number in range(5):
        write(tmp_path, number)
    prune(str(tmp_path), keep, {2})
    assert labels.rounds(str(tmp_path)) == left


def test_pruning_nothing(tmp_path: Path) -> None:
    prune(str(tmp_path / "labels"), 3)
    assert not (tmp_path / "labels").exists()


def test_a_copy_is_the_same(tmp_path: Path, content: Callable[[str], dict[str, bytes]]) -> None:
    write(tmp_path / "one", 2)
    labels.copy(str(tmp_path / "one"), str(tmp_path / "other"), 2)
    assert content(str(tmp_path / "one")) == content(str(tmp_path / "other"))
