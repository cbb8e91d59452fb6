"""Data sets as data.kind: one folder for both splits, records in the index, bad images set aside."""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import scipy.io
from PIL import Image
from pydantic import ValidationError

from uldscale.data.datasets import READERS
from uldscale.data.index import DataConfig, ImageIndex
from uldscale.data.listing import list_records
from uldscale.errors import DataError

SIZE = (40, 30)
POINTS = np.array([[10, 8], [10, 20], [15, 14], [20, 9], [20, 19]], np.float64)  # (y, x)


@pytest.fixture
def aflw(tmp_path: Path) -> str:
    """Four training and two test faces; the last of each is missing, and one is not of the size that is stated."""
    for split, count in (("train", 4), ("test", 2)):
        names = [f"{split}_{i}.png" for i in range(count)]
        (tmp_path / f"aflw_{split}_images.txt").write_text("\n".join(names))
        hw = np.tile([SIZE[1], SIZE[0]], (count, 1))
        scipy.io.savemat(tmp_path / f"aflw_{split}_keypoints.mat", {"gt": np.stack([POINTS] * count), "hw": hw})
        (tmp_path / "output").mkdir(exist_ok=True)
        for name in names[:-1]:
            Image.new("RGB", SIZE, (90, 60, 30)).save(tmp_path / "output" / name)
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "output" / "train_0.png")
    return str(tmp_path)


def test_every_data_set_is_a_kind() -> None:
    assert set(READERS) < set(get_args(DataConfig.model_fields["kind"].annotation))


def test_records_come_into_the_index(aflw: str) -> None:
    index = ImageIndex.build(DataConfig(kind="aflw", train=aflw, size=32))
    rows = [index.row(i) for i in range(len(index))]
    assert [(row.id, row.split, row.status) for row in rows] == [
        ("test_0", "test", "ok"),
        ("test_1", "test", "quarantined"),
        ("train_0", "train", "quarantined"),
        ("train_1", "train", "ok"),
        ("train_2", "train", "ok"),
        ("train_3", "train", "quarantined"),
    ]
    assert [row.reason for row in rows if row.reason] == [
        "the file is not there",
        "annotated as 40 x 30 px, but the image is 30 x 40 px",
        "the file is not there",
    ]
    np.testing.assert_allclose(index.landmarks(index.rows("test"))[0, 0], [8 / 40, 10 / 30], rtol=1e-6)


def test_the_training_images_are_no_test_images() -> None:
    with pytest.raises(ValidationError, match="data.test must be other images than data.train"):
        DataConfig.model_validate({"kind": "folder", "train": "a/b", "test": "a/b/"})


def test_a_limit_holds_for_each_split(aflw: str) -> None:
    few = list_records(DataConfig(kind="aflw", train=aflw, limit=1))
    assert sorted(split for split, _ in few) == ["test", "train"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"test": "b"}, "data.test must be left out for data.kind 'aflw': data.train holds both splits"),
        ({"train": 5}, "data.train must be a path for data.kind 'aflw'"),
        ({"images": "b"}, "data.images has no meaning for data.kind 'aflw'; leave it out"),
        (
            {"roi": {"provider": "annotation"}},
            "needs data.kind 'coco', 'celeba', 'ls3d', 'mtfl', 'cat', 'pts', 'wflw', which",
        ),
    ],
)
def test_settings_that_do_not_fit(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        DataConfig.model_validate({"kind": "aflw", "train": "a", **changed})


@pytest.mark.parametrize("kind", sorted(READERS))
def test_an_empty_folder_and_none(tmp_path: Path, kind: str) -> None:
    for place in (tmp_path, tmp_path / "none"):
        with pytest.raises(DataError) as caught:
            list_records(DataConfig.model_validate({"kind": kind, "train": str(place)}))
        assert str(tmp_path) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", sorted(READERS))
def test_an_unknown_file_system(kind: str) -> None:
    with pytest.raises(DataError, match="cannot be opened: Protocol not known: nosuch"):
        list_records(DataConfig.model_validate({"kind": kind, "train": "nosuch://bucket"}))
