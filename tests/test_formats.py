"""Every format, read back by its tool or checked against what the tool documents: pixels, names and missing landmarks come back."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import numpy as np
import pytest

from uldscale.data.annotations import read_coco
from uldscale.formats import FORMATS, Found

NAMES = ["left eye", "nose, tip", "2"]
POINTS = np.array([[10.25, 20.5], [np.nan, np.nan], [59.0, 1.0]])
FOUND = [
    Found(
        "sub/a",
        "sub/a.png",
        "/images/sub/a.png",
        (64, 48),
        (-6.4, 0, 70.4, 48),
        POINTS,
        np.array([0.9, 0, 0.5]),
        np.array([0.95, 0, 0.4]),
        2,
    ),
    Found(
        "b",
        "b.jpg",
        "s3://bucket/b.jpg",
        (640, 480),
        (0, 0, 640, 480),
        POINTS[::-1] * 2,
        np.array([0.25, 0, 0.75]),
        np.array([0.8, 0, 0.9]),
        0,
    ),
]


def written(format: str) -> str:
    return FORMATS[format](FOUND, NAMES, "uldscale-faces")


def test_json() -> None:
    content = json.loads(written("json"))
    assert content["images"] == {"sub/a": [[10.25, 20.5], None, [59, 1]], "b": [[118, 2], None, [20.5, 41]]}
    assert content["visibility"]["b"] == [0.8, 0, 0.9]
    assert (content["names"], content["poses"], content["scores"]["sub/a"]) == (
        NAMES,
        {"sub/a": 2, "b": 0},
        [0.9, 0, 0.5],
    )


def test_csv() -> None:
    rows = list(csv.DictReader(io.StringIO(written("csv"))))
    assert [(row["image"], row["object"]) for row in rows] == [("sub/a.png", "1"), ("b.jpg", "1")]
    columns = ("x", "y", "score", "visibility")
    assert [rows[0][f"left eye_{name}"] for name in columns] == ["10.25", "20.5", "0.9", "0.95"]
    assert [rows[0][f"nose, tip_{name}"] for name in columns] == ["", "", "0.0", "0.0"]


def test_coco_in_our_own_reader(tmp_path: Path) -> None:
    (tmp_path / "landmarks.json").write_text(written("coco"))
    records = {record.id: record for record in read_coco(str(tmp_path / "landmarks.json"), None)}
    np.testing.assert_array_equal(records["sub/a"].landmarks, POINTS.astype(np.float32))  # type: ignore[arg-type]
    assert (records["sub/a"].box, records["b"].extent) == ((0, 0, 64, 48), (640, 480))


def test_coco_in_pycocotools(tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco", reason="the reader of COCO is not installed")
    evaluation = pytest.importorskip("pycocotools.cocoeval", reason="the reader of COCO is not installed")
    (tmp_path / "landmarks.json").write_text(written("coco"))
    truth = coco.COCO(str(tmp_path / "landmarks.json"))
    annotations = truth.loadAnns(truth.getAnnIds())
    assert annotations[0]["keypoints"] == [10.25, 20.5, 2, 0, 0, 0, 59, 1, 1], "the last one is hidden"
    assert [each["num_keypoints"] for each in annotations] == [2, 2]
    assert truth.loadCats(1)[0]["keypoints"] == NAMES
    judge = evaluation.COCOeval(truth, truth.loadRes(annotations), "keypoints")
    judge.params.kpt_oks_sigmas = np.full(3, 0.05)
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    assert judge.stats[0] == pytest.approx(1)


KEYPOINT = {
    "type": "object",
    "required": ["type", "from_name", "to_name", "original_width", "original_height", "value"],
    "properties": {
        "type": {"const": "keypointlabels"},
        "original_width": {"type": "integer", "minimum": 1},
        "original_height": {"type": "integer", "minimum": 1},
        "score": {"type": "number", "minimum": 0, "maximum": 1},
        "value": {
            "type": "object",
            "required": ["x", "y", "width", "keypointlabels"],
            "properties": {
                **dict.fromkeys(("x", "y", "width"), {"type": "number", "minimum": 0, "maximum": 100}),
                "keypointlabels": {"type": "array", "items": {"enum": NAMES}, "minItems": 1, "maxItems": 1},
            },
            "additionalProperties": False,
        },
    },
}
TASKS = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["data", "predictions"],
        "properties": {
            "data": {"type": "object", "required": ["image"]},
            "predictions": {
                "type": "array",
                "items": {
                    "required": ["model_version", "result"],
                    "properties": {"result": {"type": "array", "items": KEYPOINT}},
                },
            },
        },
    },
}
"""Of Label Studio's "Import pre-annotated data", and of its KeyPointLabels."""


def test_label_studio() -> None:
    tasks = json.loads(written("labelstudio"))
    jsonschema.validate(tasks, TASKS)
    assert [task["data"]["image"] for task in tasks] == ["/data/local-files/?d=sub/a.png", "s3://bucket/b.jpg"]
    first, second = tasks[0]["predictions"][0]["result"]
    assert (first["value"]["x"] * 0.64, first["value"]["y"] * 0.48) == pytest.approx((10.25, 20.5))
    assert second["value"]["keypointlabels"] == ["2"]


def test_cvat() -> None:
    root = ElementTree.fromstring(written("cvat"))
    assert (root.tag, root.findtext("version")) == ("annotations", "1.1")
    assert [label.findtext("name") for label in root.iterfind("meta/task/labels/label")] == NAMES
    images = root.findall("image")
    assert [image.attrib for image in images] == [
        {"id": "0", "name": "sub/a.png", "width": "64", "height": "48"},
        {"id": "1", "name": "b.jpg", "width": "640", "height": "480"},
    ]
    points = [{key: point.attrib[key] for key in ("label", "points", "occluded")} for point in images[0]]
    assert points == [
        {"label": "left eye", "points": "10.25,20.50", "occluded": "0"},
        {"label": "2", "points": "59.00,1.00", "occluded": "1"},
    ]


def test_fiftyone() -> None:
    first, second = json.loads(written("fiftyone"))["samples"]
    assert (first["filepath"], second["filepath"]) == ("/images/sub/a.png", "s3://bucket/b.jpg")
    assert first["metadata"] == {"_cls": "ImageMetadata", "width": 64, "height": 48}
    keypoints: list[dict[str, Any]] = first["landmarks"]["keypoints"]
    assert [each["label"] for each in keypoints] == ["left eye", "2"]
    assert keypoints[0]["points"][0] == pytest.approx([10.25 / 64, 20.5 / 48])
    assert keypoints[0]["confidence"] == [0.9]


def test_several_objects_of_one_image(tmp_path: Path) -> None:
    """One image, as the tools want it, which keep one of two of a name; each object keeps its landmarks."""
    both = [FOUND[0], replace(FOUND[1], id="sub/a#2", name="sub/a.png", uri=FOUND[0].uri, size=FOUND[0].size)]
    texts = {format: write(both, NAMES, "uldscale-faces") for format, write in FORMATS.items()}
    assert [row["object"] for row in csv.DictReader(io.StringIO(texts["csv"]))] == ["1", "2"]
    coco = json.loads(texts["coco"])
    assert [image["file_name"] for image in coco["images"]] == ["sub/a.png"]
    assert [(each["id"], each["image_id"]) for each in coco["annotations"]] == [(1, 1), (2, 1)]
    (tmp_path / "coco.json").write_text(texts["coco"])
    assert [record.id for record in read_coco(str(tmp_path / "coco.json"), None)] == ["sub/a", "sub/a#2"]
    (task,), (sample,) = json.loads(texts["labelstudio"]), json.loads(texts["fiftyone"])["samples"]
    (image,) = ElementTree.fromstring(texts["cvat"]).findall("image")
    results = task["predictions"][0]["result"]
    assert (
        len({each["id"] for each in results})
        == len(results)
        == len(image)
        == len(sample["landmarks"]["keypoints"])
        == 4
    )
