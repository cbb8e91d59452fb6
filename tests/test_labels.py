"""Rounds of pseudo-labels: what comes back, what a crash leaves, what is kept."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from uldscale import files
from uldscale.errors import IncompleteError
from uldscale.labels import LabelTable, latest_round, prune


def table(number: int, count: int = 12, latent: int = 3) -> LabelTable:
    random = np.random.default_rng(number)
    return LabelTable(
        round=number,
        row=np.arange(count, dtype=np.int64) // 3,
        view=np.zeros(count, np.int16),
        x=random.random(count, np.float32),
        y=random.random(count, np.float32),
        score=random.random(count, np.float32),
        k=(np.arange(count) % 3).astype(np.int16),
        q=random.integers(0, 2, count).astype(np.int16),
        distance=random.random(count, np.float32),
        poses=np.array([0, 1, 1, 0, -1], np.int16),
        codes=random.random((5, latent), np.float32),
        clusters={"centroids": random.random((2, 3, 4), np.float32), "pose_centroids": random.random((latent, 2)).T},
    )


def assert_equal(got: LabelTable, wanted: LabelTable) -> None:
    assert got.clusters.keys() == wanted.clusters.keys()
    values: list[tuple[Any, Any]] = [
        (getattr(got, field.name), getattr(wanted, field.name)) for field in fields(LabelTable)[:-1]
    ]
    for one, other in [*values, *((got.clusters[name], wanted.clusters[name]) for name in wanted.clusters)]:
        np.testing.assert_array_equal(one, other)
        assert np.asarray(one).dtype == np.asarray(other).dtype


@pytest.mark.parametrize(("count", "latent"), [(12, 3), (12, 0), (0, 3)])
def test_round_trip(tmp_path: Path, count: int, latent: int) -> None:
    written = table(3, count, latent)
    written.write(str(tmp_path))
    assert_equal(LabelTable.read(str(tmp_path)), written)
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "00003",
        "LATEST",
        "clusters.safetensors",
        "labels.parquet",
    ]


def test_anyone_can_read_the_parquet_file(tmp_path: Path) -> None:
    table(0).write(str(tmp_path))
    columns = ["row", "view", "x", "y", "score", "k", "q", "distance"]
    assert pq.read_table(tmp_path / "00000" / "labels.parquet").column_names == columns


def test_a_round_written_twice_has_the_same_bytes(tmp_path: Path) -> None:
    written = []
    for _ in range(2):
        table(0).write(str(tmp_path))
        written.append({path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()})
    assert written[0] == written[1]


def test_the_fine_label_counts_landmarks_within_poses() -> None:
    labels = replace(table(0), k=np.array([0, 2, 1], np.int16), q=np.array([0, 0, 1], np.int16))
    np.testing.assert_array_equal(labels.r, [0, 2, 4])


def test_the_fine_label_has_room_for_many_poses() -> None:
    centroids = np.zeros((2000, 50, 1), np.float32)
    labels = replace(
        table(0), k=np.array([49], np.int16), q=np.array([1999], np.int16), clusters={"centroids": centroids}
    )
    assert labels.r.tolist() == [99_999]


def test_rounds_are_read_by_number(tmp_path: Path) -> None:
    assert latest_round(str(tmp_path)) is None
    for number in (0, 1, 2):
        table(number).write(str(tmp_path))
        assert latest_round(str(tmp_path)) == number
    assert_equal(LabelTable.read(str(tmp_path), 1), table(1))
    assert_equal(LabelTable.read(str(tmp_path)), table(2))


def test_going_back_makes_the_earlier_round_the_latest(tmp_path: Path) -> None:
    for number in (0, 1, 2, 1):
        table(number).write(str(tmp_path))
    assert latest_round(str(tmp_path)) == 1


@pytest.mark.parametrize("written", [0, 1, 2])
def test_a_crash_leaves_the_round_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int) -> None:
    """The crash comes after so many of the three files of a round: labels, clusters, LATEST."""
    table(0).write(str(tmp_path))
    write = files.write_bytes
    calls: list[str] = []

    def crash(path: str, content: bytes) -> None:
        if len(calls) == written:
            raise KeyboardInterrupt
        calls.append(path)
        write(path, content)

    monkeypatch.setattr(files, "write_bytes", crash)
    with pytest.raises(KeyboardInterrupt):
        table(1).write(str(tmp_path))
    monkeypatch.setattr(files, "write_bytes", write)
    assert_equal(LabelTable.read(str(tmp_path)), table(0))
    table(1).write(str(tmp_path))
    assert_equal(LabelTable.read(str(tmp_path)), table(1))


def test_rounds_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(IncompleteError, match="no round is finished; run the job again"):
        LabelTable.read(str(tmp_path / "labels"))
    table(4).write(str(tmp_path))
    with pytest.raises(IncompleteError, match=r"round 3 is missing, there are \[4\]"):
        LabelTable.read(str(tmp_path), 3)


@pytest.mark.parametrize(
    ("keep", "left"), [(0, [2]), (1, [2, 4]), (2, [2, 3, 4]), (3, [2, 3, 4]), (9, [0, 1, 2, 3, 4])]
)
def test_pruning_keeps_the_newest_and_the_latest(tmp_path: Path, keep: int, left: list[int]) -> None:
    for number in (0, 1, 2, 3, 4):
        table(number, 3).write(str(tmp_path))
    (tmp_path / "LATEST").write_text("2\n")
    prune(str(tmp_path), keep)
    assert sorted(path.name for path in tmp_path.iterdir()) == [*(f"{number:05d}" for number in left), "LATEST"]
    assert LabelTable.read(str(tmp_path)).round == 2


def test_pruning_nothing(tmp_path: Path) -> None:
    prune(str(tmp_path / "labels"), 3)
    assert not (tmp_path / "labels").exists()


def test_churn_is_the_share_of_labels_that_came_went_or_moved() -> None:
    before = replace(table(0), x=np.full(12, 0.5, np.float32), y=np.full(12, 0.5, np.float32))
    assert before.churn(before) == 0
    moved = replace(before, x=before.x + np.array([0.2, 0.04] + [0] * 10, np.float32))
    assert moved.churn(before) == pytest.approx(1 / 12)
    columns = ("row", "view", "x", "y", "k", "q", "score", "distance")
    shorter = replace(before, **{name: getattr(before, name)[:9] for name in columns})
    assert shorter.churn(before) == before.churn(shorter) == pytest.approx(3 / 12)
    elsewhere = replace(before, row=before.row + 100)
    assert elsewhere.churn(before) == 1


def test_churn_of_nothing() -> None:
    assert table(0, 0).churn(table(1, 0)) == 0
