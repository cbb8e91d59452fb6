"""CelebA and MAFL: who trains, who is annotated, who is judged."""

from pathlib import Path

import numpy as np
import pytest

from uldscale.data.datasets.celeba import read_celeba
from uldscale.errors import DataError

PARTITION = {"000001": 0, "000002": 0, "000003": 1, "000004": 2, "000005": 0, "000006": 1}
FITTED, JUDGED = ["000002", "000003"], ["000005", "000006"]
POINTS = "  69  109  106  113   77  142   73  152  108  154"
COLUMNS = "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"


def made(root: Path, *, deep: bool = True, wild: bool = False) -> str:
    """Six images, in the folders of the archive or all at the top."""
    lists, marks, mafl, images = (root / part if deep else root for part in ("Eval", "Anno", "MAFL", "Img"))
    for folder in (lists, marks, mafl, images / ("img_celeba" if wild else "img_align_celeba")):
        folder.mkdir(parents=True, exist_ok=True)
    partition = "".join(f"{name}.jpg {number}\r\n" for name, number in PARTITION.items())
    (lists / "list_eval_partition.txt").write_bytes(partition.encode())
    rows = "".join(f"{name}.jpg{POINTS} \n" for name in PARTITION)
    name = "list_landmarks_celeba.txt" if wild else "list_landmarks_align_celeba.txt"
    (marks / name).write_text(f"6\n{COLUMNS} \n{rows}")
    (mafl / "training.txt").write_text("".join(f"{name}.jpg\n" for name in FITTED))
    (mafl / "testing.txt").write_text("\n".join(f"{name}.jpg" for name in JUDGED))
    return str(root)


@pytest.mark.parametrize("deep", [True, False])
def test_splits(tmp_path: Path, deep: bool) -> None:
    splits = read_celeba(made(tmp_path, deep=deep))
    ids = {split: [record.id for record in records] for split, records in splits.items()}
    assert ids == {"train": ["000001", "000002", "000003"], "test": JUDGED}
    annotated = [record.id for record in splits["train"] if record.landmarks is not None]
    assert annotated == FITTED


def test_points_and_places(tmp_path: Path) -> None:
    first = read_celeba(made(tmp_path))["test"][0]
    assert (first.uri, first.extent, first.box) == (f"{tmp_path}/Img/img_align_celeba/000005.jpg", (178, 218), None)
    np.testing.assert_array_equal(first.landmarks, [[69, 109], [106, 113], [77, 142], [73, 152], [108, 154]])


def test_the_order_of_lines_does_not_matter(tmp_path: Path) -> None:
    root = made(tmp_path, deep=False)
    before = read_celeba(root)
    for name in ("list_eval_partition.txt", "training.txt", "testing.txt"):
        lines = (tmp_path / name).read_text().splitlines()
        (tmp_path / name).write_text("\n".join(reversed(lines)))
    after = read_celeba(root)
    for split in ("train", "test"):
        assert [record.id for record in before[split]] == [record.id for record in after[split]]


def test_original_images_have_boxes(tmp_path: Path) -> None:
    root = made(tmp_path, wild=True)
    assert read_celeba(root)["test"][0].box is None
    boxes = "".join(f"{name}.jpg    95  71 226 313\n" for name in PARTITION if name != "000002")
    (tmp_path / "Anno" / "list_bbox_celeba.txt").write_text(f"6\nimage_id x_1 y_1 width height\n{boxes}")
    first, second, _ = read_celeba(root)["train"]
    assert (first.uri, first.extent) == (f"{tmp_path}/Img/img_celeba/000001.jpg", None)
    assert (first.box, second.box) == ((95, 71, 321, 384), None)


def test_one_bad_annotation_breaks_one_image(tmp_path: Path) -> None:
    root = made(tmp_path, deep=False)
    path = tmp_path / "list_landmarks_align_celeba.txt"
    lines = path.read_text().replace("000002.jpg  69", "000002.jpg  6g").splitlines()
    path.write_text("\n".join(line for line in lines if not line.startswith("000005")))
    splits = read_celeba(root)
    assert splits["train"][1].broken == f"{path} line 4: got '6g', wanted a number"
    assert splits["test"][0].broken == f"{path} has no landmarks of 000005.jpg"
    assert [record.broken for record in (splits["train"][0], splits["test"][1])] == ["", ""]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("list_eval_partition.txt", "has no list_eval_partition.txt and no Eval/list_eval_partition.txt; unpack"),
        ("list_landmarks_align_celeba.txt", "has no list_landmarks_align_celeba.txt and no Anno/"),
        ("training.txt", "has no MAFL/training.txt and no training.txt"),
        ("testing.txt", "has no MAFL/testing.txt and no testing.txt"),
        ("img_align_celeba", "has no img_align_celeba and no Img/img_align_celeba and no"),
    ],
)
def test_missing_files(tmp_path: Path, name: str, said: str) -> None:
    root = made(tmp_path, deep=False)
    (tmp_path / name).rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=said):
        read_celeba(root)


@pytest.mark.parametrize(
    ("name", "line", "said"),
    [
        ("list_eval_partition.txt", "000009.jpg 3", "line 7: got '000009.jpg 3', wanted an image and 0 .train., 1"),
        ("list_eval_partition.txt", "000009.jpg", "line 7: got '000009.jpg', wanted an image"),
        ("list_landmarks_align_celeba.txt", "000009.jpg 1 2", "line 9: got 3 words, wanted an image and 10 numbers"),
        ("testing.txt", "\n000002.jpg", "000002.jpg is in MAFL's training list and in its test list"),
    ],
)
def test_malformed_lists(tmp_path: Path, name: str, line: str, said: str) -> None:
    root = made(tmp_path, deep=False)
    with (tmp_path / name).open("a") as file:
        file.write(line)
    with pytest.raises(DataError, match=said) as caught:
        read_celeba(root)
    assert "\n" not in str(caught.value)
