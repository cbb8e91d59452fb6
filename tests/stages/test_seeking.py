"""What is found on stored views is at rest chunk by chunk: after a break the rest is done, and nothing twice."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from uldscale.data.index import DataConfig, ImageIndex
from uldscale.errors import DataError
from uldscale.predictions import Predictions
from uldscale.runtime.alone import Alone
from uldscale.runtime.progress import Progress
from uldscale.stages.seeking import Chunk, SeekingWorker, forget, lacks, seek, sought

ROWS = np.arange(5, 505, 2)


class Seeker:
    """Finds the number of a row, its square and the view; fails at a row."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.fails_at = fails_at
        self.seen: list[int] = []

    def setup(self) -> None:
        pass

    def seek(self, chunk: Chunk) -> dict[str, NDArray[Any]]:
        if self.fails_at in chunk.rows:
            raise OSError("no space left")
        self.seen += chunk.rows
        rows = np.array(chunk.rows, np.float32)
        return {"points": np.stack([rows, rows**2], 1), "poses": np.full(len(rows), chunk.view)}


def run(seeker: Seeker, method: Path, view: int = 0) -> list[NDArray[Any]]:
    with Alone(lambda: SeekingWorker(seeker), None) as alone, Progress("locate", len(ROWS), shown=False) as progress:
        return seek(alone, str(method), ROWS, view, ("points", "poses"), progress)


def test_a_break_costs_the_chunks_in_work(tmp_path: Path) -> None:
    first, second, third = Seeker(fails_at=int(ROWS[130])), Seeker(), Seeker()
    with pytest.raises(OSError, match="no space left"):
        run(first, tmp_path)
    points, poses = run(second, tmp_path)
    assert len(first.seen) == 128
    assert first.seen + second.seen == ROWS.tolist()
    np.testing.assert_array_equal(points[:, 1], ROWS.astype(np.float32) ** 2)
    assert (poses == 0).all()
    assert len(run(third, tmp_path)[0]) == len(ROWS)
    assert third.seen == []


@pytest.mark.parametrize("rows", [ROWS[:20], np.delete(ROWS[:20], 5)])
def test_parts_of_other_rows_are_not_taken(
    rows: NDArray[np.int64], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may have the same ends, and be as many."""
    other = np.delete(ROWS[:20], 7)
    for some in (other, rows):
        monkeypatch.setattr(sys.modules[__name__], "ROWS", some)
        points, _ = run(Seeker(), tmp_path)
        np.testing.assert_array_equal(points[:, 0], some)


def test_another_view_is_other_work(tmp_path: Path) -> None:
    run(Seeker(), tmp_path)
    assert (run(Seeker(), tmp_path, view=1)[1] == 1).all()
    forget(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def index() -> ImageIndex:
    """Four training and two test images, of which the first and the last have no landmarks."""
    table = ImageIndex.build(DataConfig(kind="faces3d", train=4, test=2, size=64)).table
    place, landmarks = table.schema.get_field_index("landmarks"), table["landmarks"].to_pylist()
    landmarks[0] = landmarks[5] = [float("nan")] * len(landmarks[0])
    column = pa.array(landmarks, table.schema.field(place).type)
    return ImageIndex(table.set_column(place, table.schema.field(place), column))


def test_what_no_measure_is_of_is_not_sought(index: ImageIndex) -> None:
    assert sought(index, all_rows=True).tolist() == [0, 1, 2, 3, 4, 5]
    assert sought(index, all_rows=False).tolist() == [1, 2, 3, 4, 5]


def test_predictions_of_fewer_rows_are_lacking(index: ImageIndex, tmp_path: Path) -> None:
    """All rows are sought when somebody asks for them later."""
    path, rows = str(tmp_path / "predictions.parquet"), sought(index, all_rows=False)
    assert lacks(path, rows)
    ids = [index.row(int(row)).id for row in rows]
    Predictions(ids, np.zeros((5, 1, 2), np.float32), np.zeros(5, np.int64)).write(path)
    assert not lacks(path, rows)
    assert lacks(path, sought(index, all_rows=True))
    assert index.rows_of(ids[::-1]).tolist() == [5, 4, 3, 2, 1]
    with pytest.raises(DataError, match="the index has no image 'x'"):
        index.rows_of([ids[0], "x"])
