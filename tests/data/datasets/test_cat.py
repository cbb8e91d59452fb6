"""CAT: nine points, a split that depends on file names alone."""

from pathlib import Path

import numpy as np
import pytest

from uldscale.data.datasets.cat import read_cat
from uldscale.errors import DataError

NINE = "9 175 160 239 162 199 199 149 121 137 78 166 93 281 101 312 96 296 133 "


def made(root: Path, names: list[str]) -> str:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
        (root / f"{name}.cat").write_text(NINE)
    return str(root)


def test_points_and_their_box(tmp_path: Path) -> None:
    root = made(tmp_path, ["CAT_00/00000001_000.jpg"])
    (tmp_path / "CAT_00" / "Thumbs.db").touch()
    (record,) = read_cat(root)["test"]
    assert (record.id, record.uri) == ("CAT_00/00000001_000", f"{tmp_path}/CAT_00/00000001_000.jpg")
    assert record.landmarks is not None
    assert record.landmarks.shape == (9, 2)
    np.testing.assert_array_equal(record.landmarks[[0, 1, 8]], [[175, 160], [239, 162], [296, 133]])
    assert record.box == (137, 78, 312, 199)


def split_of(root: str) -> dict[str, list[str]]:
    return {split: [Path(record.uri).name for record in records] for split, records in read_cat(root).items()}


def test_the_split_is_three_quarters_of_the_names_by_their_hash(tmp_path: Path) -> None:
    names = [f"{i:08d}_000.jpg" for i in range(8)]
    split = split_of(made(tmp_path, names))
    # Their digests by sha256sum begin with ea32, aa2f, ae8e, 5369, d5df, 434c, 8c22, 8c1c.
    assert split == {"train": [names[i] for i in (5, 3, 7, 6, 1, 2)], "test": [names[4], names[0]]}


def test_the_split_knows_neither_folders_nor_order(tmp_path: Path) -> None:
    names = [f"{i:08d}_000.jpg" for i in range(8)]
    flat = split_of(made(tmp_path / "flat", names))
    deep = split_of(made(tmp_path / "deep", [f"CAT_0{i}/{name}" for i, name in enumerate(reversed(names))]))
    assert flat == deep


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds nothing; wanted 9 and then x and y of as many points"),
        (NINE[:-5], "holds 18 numbers that begin with 9; wanted 9"),
        ("8" + NINE[1:], "holds 19 numbers that begin with 8; wanted 9"),
        (NINE.replace("175", "l75"), "got 'l75', wanted a number"),
        (NINE.replace("175", "nan"), "point 1 of 9 is (nan, 160); wanted pixels"),
    ],
)
def test_a_bad_annotation_is_broken(tmp_path: Path, text: str, said: str) -> None:
    root = made(tmp_path, ["a.jpg"])
    (tmp_path / "a.jpg.cat").write_text(text)
    (record,) = read_cat(root)["test"]
    assert record.broken.startswith(f"{tmp_path}/a.jpg.cat")
    assert said in record.broken


def test_images_without_annotation_and_the_one_with_a_wrong_one_are_broken(tmp_path: Path) -> None:
    root = made(tmp_path, ["a.jpg", "00000003_019.jpg"])
    (tmp_path / "a.jpg.cat").unlink()
    broken = {record.id: record.broken for records in read_cat(root).values() for record in records}
    assert "a.jpg.cat is not there" in broken["a"]
    assert "erratum" in broken["00000003_019"]


def test_a_second_copy_of_the_data_set_is_refused(tmp_path: Path) -> None:
    root = made(tmp_path, ["CAT_00/a.jpg", "cats/CAT_00/a.jpg"])
    with pytest.raises(DataError, match=r"two images have the name a.jpg: .*/CAT_00/a.jpg and .*; remove one"):
        read_cat(root)


def test_no_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no image"):
        read_cat(str(tmp_path))
