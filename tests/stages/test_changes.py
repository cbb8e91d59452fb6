"""Images that came, went or changed since a run was indexed, and copies."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from uldscale.data.index import DataConfig, ImageIndex
from uldscale.errors import DataError
from uldscale.stages.changes import copies, require_different, since_indexed


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 40, 3), np.uint8)).save(path)


def indexed(folder: Path, **more: object) -> tuple[DataConfig, ImageIndex, str]:
    config = DataConfig.model_validate({"kind": "folder", "train": str(folder / "train"), **more})
    index, path = ImageIndex.build(config), str(folder / "index.parquet")
    index.write(path)
    return config, index, path


def test_what_happened_to_the_images(tmp_path: Path) -> None:
    for seed in range(3):
        picture(tmp_path / f"train/{seed}.png", seed)
    known = indexed(tmp_path)
    assert since_indexed(*known) == []
    picture(tmp_path / "train/9.png", 9)
    (tmp_path / "train/0.png").unlink()
    later = os.path.getmtime(known[2]) + 10
    os.utime(tmp_path / "train/1.png", (later, later))
    assert since_indexed(*known) == [
        "1 images are new since this run was indexed, such as 9",
        "1 images are gone since this run was indexed, such as 0",
        "1 images are changed since this run was indexed, such as 1",
    ]


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    picture(tmp_path / "train/0.png", 0)
    known = indexed(tmp_path)
    (tmp_path / "train/0.png").unlink()
    (said,) = since_indexed(*known)
    assert said.startswith("the images cannot be listed any more")


def test_images_that_are_all_the_same(tmp_path: Path) -> None:
    for number in range(3):
        picture(tmp_path / f"train/{number}.png", 0)
    _, index, _ = indexed(tmp_path)
    with pytest.raises(DataError, match="all 3 training images have the same content"):
        require_different(index)
    assert list(copies(index)) == ["3 training images have only 1 different contents; copies teach nothing"]


def test_images_in_both_splits(tmp_path: Path) -> None:
    for seed in range(4):
        picture(tmp_path / f"train/{seed}.png", seed)
    for seed in (3, 4, 5):
        picture(tmp_path / f"test/{seed}.png", seed)
    _, index, _ = indexed(tmp_path, test=str(tmp_path / "test"))
    require_different(index)
    (said,) = copies(index)
    assert said.startswith("1 of 3 test images are training images, too")


def test_files_that_list_images_or_hold_boxes(tmp_path: Path) -> None:
    picture(tmp_path / "train/0.png", 0)
    boxes, listed = tmp_path / "boxes.json", tmp_path / "images.txt"
    boxes.write_text('{"train/0": [0, 0, 20, 20]}')
    listed.write_text("train/0.png")
    known = indexed(tmp_path, kind="list", train=str(listed), roi={"provider": "file", "file": str(boxes)})
    assert since_indexed(*known) == []
    later = os.path.getmtime(known[2]) + 10
    for path in (boxes, listed):
        os.utime(path, (later, later))
    assert since_indexed(*known) == [f"{path} was written since this run was indexed" for path in (listed, boxes)]


def test_several_objects_of_an_image_are_no_change(tmp_path: Path) -> None:
    for seed in range(2):
        picture(tmp_path / f"train/{seed}.png", seed)
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({str(seed): [[0, 0, 20, 20], [10, 10, 40, 40]] for seed in range(2)}))
    roi = {"provider": "file", "file": str(boxes), "objects": "all"}
    config, index, path = indexed(tmp_path, roi=roi)
    assert len(index) == 4
    assert since_indexed(config, index, path) == []
    (tmp_path / "train/1.png").unlink()
    assert since_indexed(config, index, path) == ["1 images are gone since this run was indexed, such as 1"]
