"""MTFL: pixels counted from 1, backslashes, pose classes, and boxes that know no test point."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from uldscale.data.datasets.mtfl import DRIFT, SWELL, read_mtfl
from uldscale.data.index import DataConfig, ImageIndex
from uldscale.data.roi import square
from uldscale.errors import DataError

POINTS = "11 51 31 11 51 21 21 41 61 61"


def made(
    root: Path, training: str = f"lfw_5590\\A_1.jpg {POINTS} 1 2 2 3\r\n net_7876\\b.jpg {POINTS} 2 1 2 5\r\n"
) -> str:
    (root / "training.txt").write_text(training)
    (root / "testing.txt").write_text(f"AFLW/0001.jpg {POINTS} 1 1 2 1\n")
    return str(root)


def test_points_begin_at_zero_and_are_pairs(tmp_path: Path) -> None:
    first, second = read_mtfl(made(tmp_path))["train"]
    assert (first.id, first.uri) == ("lfw_5590/A_1", f"{tmp_path}/lfw_5590/A_1.jpg")
    np.testing.assert_array_equal(first.landmarks, [[10, 20], [50, 20], [30, 40], [10, 60], [50, 60]])
    assert (first.yaw, second.yaw) == (0, 60)


def test_with_their_margin_a_crop_of_a_test_image_is_all_of_it(tmp_path: Path) -> None:
    (record,) = read_mtfl(made(tmp_path))["test"]
    assert square(record.box or (0,) * 4, 0.275) == pytest.approx((0, 0, 150, 150))


def test_training_boxes_are_about_their_points_and_moved_the_same_way_each_time(tmp_path: Path) -> None:
    root = made(tmp_path, "".join(f"net_7876/{number}.jpg {POINTS} 2 1 2 5\n" for number in range(400)))
    boxes = np.array([record.box for record in read_mtfl(root)["train"]])
    np.testing.assert_array_equal(boxes, [record.box for record in read_mtfl(root)["train"]])
    face = 1.85 * 40
    sides, centres = boxes[:, 2:] - boxes[:, :2], (boxes[:, :2] + boxes[:, 2:]) / 2
    np.testing.assert_allclose(sides[:, 0], sides[:, 1])
    np.testing.assert_allclose(np.median(sides), face, rtol=0.02)
    np.testing.assert_allclose(np.std(np.log(sides / face)), SWELL, rtol=0.2)
    np.testing.assert_allclose(np.mean(centres, axis=0), [30, 40], atol=0.02 * face)
    np.testing.assert_allclose(np.std(centres, axis=0) / face, DRIFT, rtol=0.2)


def test_points_of_which_nobody_says_that_they_are_hidden_are_seen(tmp_path: Path) -> None:
    root = made(tmp_path)
    for name in ("lfw_5590/A_1.jpg", "net_7876/b.jpg", "AFLW/0001.jpg"):
        (tmp_path / name).parent.mkdir()
        Image.fromarray(np.random.default_rng(len(name)).integers(0, 256, (150, 150, 3), np.uint8)).save(
            tmp_path / name
        )
    index = ImageIndex.build(DataConfig(kind="mtfl", train=root, size=32))
    np.testing.assert_array_equal(index.visible(index.rows()), np.ones((3, 5), bool))


@pytest.mark.parametrize("words", [POINTS, f"{POINTS} 1 2 2 6", f"{POINTS[:-2]}x 1 2 2 3"])
def test_one_bad_line_is_one_broken_image(tmp_path: Path, words: str) -> None:
    good, bad = read_mtfl(made(tmp_path, f"a/a.jpg {POINTS} 1 2 2 3\na/b.jpg {words}\n"))["train"]
    assert not good.broken
    assert "training.txt line 2" in bad.broken


def test_an_image_that_leads_away_and_one_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not below"):
        read_mtfl(made(tmp_path, f"..\\a.jpg {POINTS} 1 2 2 3\n"))
    with pytest.raises(DataError, match="names an image twice"):
        read_mtfl(made(tmp_path, f"a.jpg {POINTS} 1 2 2 3\na.jpg {POINTS} 1 2 2 3\n"))


def test_the_published_files(shared: Path) -> None:
    root = shared / "data/mtfl"
    if not root.is_dir():
        pytest.skip(f"no MTFL: {root} is not there")
    splits = read_mtfl(str(root))
    assert {split: len(records) for split, records in splits.items()} == {"train": 10_000, "test": 2_995}
    assert not any(record.broken for records in splits.values() for record in records)
    assert {record.person for record in splits["train"] if "Aaron_Eckhart" in record.id} == {"Aaron_Eckhart"}
    assert Counter(record.yaw for record in splits["test"]) == {-60: 193, -30: 450, 0: 1825, 30: 401, 60: 126}
    config = DataConfig(
        kind="mtfl", train=str(root), size=64, limit=60, roi={"provider": "annotation", "margin": 0.275}
    )  # type: ignore[arg-type]
    index = ImageIndex.build(config)
    assert len(index.rows()) == 120
    # In crops of both splits the points are in the same places.
    places = [np.median(index.landmarks(index.rows(split)), axis=0) for split in ("train", "test")]
    np.testing.assert_allclose(*places, atol=0.05)
