"""EXIF orientation: points and boxes turn with the pixels."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from uldscale.data.index import DataConfig, ImageIndex
from uldscale.data.orientation import Turn

WIDTH, HEIGHT = 40, 24
DOT = (29, 6)
"""The pixel that is white, as it is stored."""


@pytest.mark.parametrize("orientation", range(1, 9))
def test_points_and_boxes_turn_with_the_pixels(orientation: int) -> None:
    stored = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    stored[DOT[1], DOT[0]] = 255
    turn = Turn(orientation, WIDTH, HEIGHT)
    upright = turn.pixels(stored)
    assert turn.sizes == (upright.shape[1::-1], (WIDTH, HEIGHT))
    row, column = np.argwhere(upright[..., 0] > 0)[0]
    centre = np.array(DOT, np.float32) + 0.5
    np.testing.assert_array_equal(turn.points(centre), [column + 0.5, row + 0.5])
    assert turn.box((DOT[0], DOT[1], DOT[0] + 1, DOT[1] + 1)) == (column, row, column + 1, row + 1)
    assert turn.points(np.full((2, 2), np.nan, np.float32)).shape == (2, 2)


def coco(folder: Path, orientation: int, extent: tuple[int, int] | None, box: bool = True) -> dict[str, Any]:
    """Settings of a photograph that EXIF turns, with a point and a box on the stored white dot; beside it an image without any of that."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[DOT[1] - 1 : DOT[1] + 2, DOT[0] - 1 : DOT[0] + 2] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(folder / "a.png", exif=exif)
    Image.fromarray(pixels).save(folder / "b.png")
    size = {} if extent is None else {"width": extent[0], "height": extent[1]}
    point, bbox = [DOT[0] + 0.5, DOT[1] + 0.5, 2], [DOT[0] - 2, DOT[1] - 2, 5, 5]
    content = {
        "images": [{"id": 1, "file_name": "a.png", **size}, {"id": 2, "file_name": "b.png"}],
        "annotations": [{"image_id": id, "keypoints": point, "bbox": bbox} for id in ((1, 2) if box else (2,))],
    }
    (folder / "a.json").write_text(json.dumps(content))
    return {"kind": "coco", "train": str(folder / "a.json"), "roi": {"provider": "annotation"}, "size": 32}


STORED, UPRIGHT = (WIDTH, HEIGHT), (HEIGHT, WIDTH)


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("extent", [None, "stored", "upright"])
def test_annotations_of_stored_pixels(tmp_path: Path, orientation: int, extent: str | None) -> None:
    upright = UPRIGHT if orientation > 4 else STORED
    size = {"stored": STORED, "upright": upright}.get(extent or "")
    index = ImageIndex.build(DataConfig.model_validate({**coco(tmp_path, orientation, size), "exif": "stored"}))
    assert [index.row(i).status for i in range(2)] == ["ok", "ok"]
    np.testing.assert_allclose(index.landmarks(index.rows()), 0.5, atol=1e-6)
    assert index.load(0, 32)[15:17, 15:17].min() > 250


@pytest.mark.parametrize(
    ("orientation", "extent", "status"),
    [
        (6, None, "quarantined"),
        (6, STORED, "quarantined"),
        (6, UPRIGHT, "ok"),
        (3, None, "quarantined"),
        (3, STORED, "quarantined"),
        (1, None, "ok"),
    ],
)
def test_nobody_guesses(tmp_path: Path, orientation: int, extent: tuple[int, int] | None, status: str) -> None:
    settings = {**coco(tmp_path, orientation, extent), "roi": {"provider": "full"}}
    index = ImageIndex.build(DataConfig.model_validate(settings))
    row = index.row(0)
    assert (row.id, row.status) == ("a", status)
    if status == "quarantined":
        assert row.reason.startswith(f"EXIF orientation {orientation} turns this image")
        assert "data.exif to stored (before) or upright (after)" in row.reason


def test_annotations_of_upright_pixels_stay(tmp_path: Path) -> None:
    index = ImageIndex.build(DataConfig.model_validate({**coco(tmp_path, 6, STORED), "exif": "upright"}))
    landmarks = index.row(0).landmarks
    assert landmarks is not None
    assert landmarks.tolist() == [[DOT[0] + 0.5, DOT[1] + 0.5]]


def test_what_nobody_annotated_needs_no_answer(tmp_path: Path) -> None:
    settings = {**coco(tmp_path, 6, STORED, box=False), "roi": {"provider": "full"}}
    assert ImageIndex.build(DataConfig.model_validate(settings)).row(0).status == "ok"


def test_boxes_of_a_file_turn_too(tmp_path: Path) -> None:
    coco(tmp_path, 6, None)
    (tmp_path / "boxes.json").write_text(
        json.dumps({name: [DOT[0] - 2, DOT[1] - 2, DOT[0] + 3, DOT[1] + 3] for name in "ab"})
    )
    roi = {"provider": "file", "file": str(tmp_path / "boxes.json")}
    settings = {"kind": "folder", "train": str(tmp_path), "roi": roi, "size": 32}
    assert ImageIndex.build(DataConfig.model_validate(settings)).row(0).reason.startswith("EXIF orientation 6")
    index = ImageIndex.build(DataConfig.model_validate({**settings, "exif": "stored"}))
    for row in (0, 1):
        assert index.load(row, 32)[15:17, 15:17].min() > 250
