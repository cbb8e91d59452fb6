"""300-W: 68 points in .pts files, split by folder."""

from pathlib import Path

import numpy as np
import pytest

from uldscale.data.datasets.pts import FOLDERS, read_pts
from uldscale.data.listing import DataConfig, list_records
from uldscale.errors import DataError

ROWS = [f"{i + 0.5:f} {2 * i:f}" for i in range(68)]


def text(rows: list[str] = ROWS, count: int = 68) -> str:
    return "\n".join(["version: 1", f"n_points:  {count}", "{", *rows, "}"])


def made(root: Path, folders: dict[str, str] | None = None) -> str:
    """An image and its points in each of the six folders."""
    for i, folder in enumerate(folders or {name: name for name in FOLDERS}):
        place = root / folder
        place.mkdir(parents=True)
        (place / f"image_{i} 1.png").touch()
        (place / f"image_{i} 1.pts").write_text(text())
    return str(root)


def test_points_and_their_box(tmp_path: Path) -> None:
    """The first pixel of 300-W is (1, 1)."""
    first = read_pts(made(tmp_path))["train"][0]
    assert (first.id, first.uri) == ("afw/image_0 1", f"{tmp_path}/afw/image_0 1.png")
    assert first.landmarks is not None
    np.testing.assert_array_equal(first.landmarks[[0, 67]], [[-0.5, -1], [66.5, 133]])
    assert first.box == (-0.5, -1, 66.5, 133)
    counted_from_0 = read_pts(str(tmp_path), first_pixel=0)["train"][0]
    assert counted_from_0.box == (0.5, 0, 67.5, 134)


def test_folders_make_the_split(tmp_path: Path) -> None:
    root = made(tmp_path)
    (tmp_path / "300w" / "01_Indoor").mkdir(parents=True)
    (tmp_path / "300w" / "01_Indoor" / "indoor_001.png").touch()
    ids = {split: [record.id for record in records] for split, records in read_pts(root).items()}
    assert ids["train"] == ["afw/image_0 1", "helen/trainset/image_1 1", "lfpw/trainset/image_2 1"]
    assert ids["test"] == ["helen/testset/image_3 1", "lfpw/testset/image_4 1", "ibug/image_5 1"]


def test_case_and_folders_above_do_not_matter(tmp_path: Path) -> None:
    upper = {name.upper(): name for name in FOLDERS}
    splits = read_pts(made(tmp_path / "ibug" / "deep", upper))
    assert [len(records) for records in splits.values()] == [3, 3]


def test_a_folder_without_images_is_named(tmp_path: Path) -> None:
    root = made(tmp_path)
    for image in (*tmp_path.glob("ibug/*"), *tmp_path.glob("helen/testset/*")):
        image.unlink()
    with pytest.raises(DataError, match=r"has no images in helen/testset, ibug; unpack afw, helen, lfpw and ibug"):
        read_pts(root)
    with pytest.raises(DataError, match="is not there"):
        read_pts(str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (text(count=51), "is not in pts format with n_points: 68, and points between { and }"),
        (text()[:-1], "is not in pts format"),
        ("", "is not in pts format"),
        (text(ROWS[:-1]), "has 67 lines of points; wanted 68 lines of x and y"),
        (text([*ROWS[:-1], "1"]), "has 68 lines of points; wanted 68 lines of x and y"),
        (text([*ROWS[:-1], "1 y"]), "got 'y', wanted a number"),
        (text([*ROWS[:-1], "1 inf"]), "point 68 of 68 is (1, inf); wanted pixels"),
    ],
)
def test_a_bad_annotation_is_broken(tmp_path: Path, content: str, said: str) -> None:
    root = made(tmp_path)
    path = tmp_path / "afw" / "image_0 1.pts"
    path.write_text(content)
    broken = read_pts(root)["train"][0].broken
    assert said in broken
    assert broken.startswith(str(path))
    path.unlink()
    assert "is not there" in read_pts(root)["train"][0].broken


OWN = [
    "version: 1\nn_points: 2\n{\n1 2\n3 4.5\n}\n",
    "n_points:2\n{\n1 2\n3 4.5\n}",
    "{\n1 2\n3 4.5\n}",
    "# made by hand\nVersion: 1.0\nN_POINTS : 2 // eyes\n{ 1 2\n\n  3 4.5 # right }\n}",
    "version: 1\r\nn_points: 2\r\n{\r\n1.0 2.0\r\n3 4.5\r\n}\r\n",
]


@pytest.mark.parametrize("content", OWN)
@pytest.mark.parametrize("suffix", ["pts", "PTS"])
def test_a_folder_of_your_own(tmp_path: Path, content: str, suffix: str) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.JPG").touch()
        (tmp_path / f"{name}.{suffix}").write_bytes(content.encode())
    splits = read_pts(str(tmp_path))
    assert list(splits) == ["train"]
    assert [(record.id, record.broken) for record in splits["train"]] == [("a", ""), ("b", "")]
    np.testing.assert_array_equal(splits["train"][0].landmarks, np.array([[0, 1], [2, 3.5]], np.float32))


def test_two_folders_of_your_own(tmp_path: Path) -> None:
    """Whatever they are called."""
    for folder in ("afw", "test"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.jpg").touch()
        (tmp_path / folder / "a.pts").write_text(OWN[0])
    config = DataConfig(kind="pts", train=str(tmp_path / "afw"), test=str(tmp_path / "test"), first_pixel=0)
    (train, first), (test, second) = sorted(list_records(config), key=lambda item: item[0], reverse=True)
    assert (train, test) == ("train", "test")
    assert first.landmarks is not None
    assert second.landmarks is not None
    np.testing.assert_array_equal(first.landmarks, second.landmarks)
    assert first.landmarks[0].tolist() == [1, 2]
    with pytest.raises(DataError, match="has no images in helen/trainset, .* or give data.test"):
        read_pts(str(tmp_path / "afw"))


@pytest.mark.parametrize(
    "content",
    ["n_points: 3\n{\n1 2\n3 4\n}", "n_points: 2\n1 2\n3 4", "{\n1 2\n", "{\n}", "{\n1 2 3\n}", "{\n1 2\n}\n5 6"],
)
def test_points_of_your_own_are_whole(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.jpg").touch()
    (tmp_path / "a.pts").write_text(content)
    assert read_pts(str(tmp_path))["train"][0].broken
