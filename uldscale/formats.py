"""Landmarks as files of people's tools: one function a format, from what was found to the bytes of a file.

All coordinates are pixels of the upright image, but those of Label Studio (per cent) and FiftyOne (shares). A landmark that is missing is
null, an empty cell, visibility 0, or left out, as the format has it.

K landmarks.
"""

import csv
import io
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from uldscale.data.sources import Box

DOT = 0.5
"""Diameter of a point in Label Studio, in per cent of the width."""
SEEN = 0.5
"""From this visibility on a landmark counts as seen, where a format has two words for it only."""


@dataclass(frozen=True, eq=False)
class Found:
    """Landmarks on one image or frame."""

    id: str
    name: str
    """Of the image file, relative to its folder."""
    uri: str
    size: tuple[int, int]
    """Width and height in pixels."""
    box: Box
    """(x0, y0, x1, y1) that was looked at."""
    points: NDArray[np.float64]
    """(K, 2) pixels, NaN where missing."""
    scores: NDArray[np.float64]
    """(K,) in [0, 1], 0 where missing."""
    visibility: NDArray[np.float64]
    """(K,) probability that it is seen, 0 where missing."""
    pose: int

    @property
    def hidden(self) -> list[bool]:
        """Of each landmark whether it is rather hidden than seen."""
        hidden: list[bool] = (self.visibility < SEEN).tolist()
        return hidden

    def present(self, names: Sequence[str]) -> list[tuple[str, float, float, float, bool]]:
        """Name, x, y, score, and whether it is hidden, of each landmark that is there."""
        rows = zip(names, self.points.tolist(), self.scores.tolist(), self.hidden, strict=True)
        return [(name, x, y, score, hidden) for name, (x, y), score, hidden in rows if np.isfinite([x, y]).all()]


_COLUMNS = ("x", "y", "score", "visibility")

Format = Callable[[Sequence[Found], Sequence[str], str], str]
"""From what was found, the names of the K landmarks, and the name of the model, to a text."""


def to_json(found: Sequence[Found], names: Sequence[str], model: str) -> str:
    """What `uldscale evaluate --predictions` reads, with scores, visibility, poses and places of the images beside it."""
    content = {
        "name": model,
        "unit": "pixels",
        "names": list(names),
        "images": {each.id: _points(each) for each in found},
        "scores": {each.id: each.scores.tolist() for each in found},
        "visibility": {each.id: each.visibility.tolist() for each in found},
        "poses": {each.id: each.pose for each in found},
        "files": {each.id: each.uri for each in found},
    }
    return json.dumps(content) + "\n"


def to_csv(found: Sequence[Found], names: Sequence[str], model: str) -> str:
    """A row an object: its image, its number there (from 1) and its pose, then x, y, score and visibility of each landmark."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["image", "object", "pose", *(f"{name}_{value}" for name in names for value in _COLUMNS)])
    for objects in _by_image(found):
        for number, each in enumerate(objects, 1):
            table.writerow([each.name, number, each.pose, *_cells(each)])
    return text.getvalue()


def to_coco(found: Sequence[Found], names: Sequence[str], model: str) -> str:
    """COCO keypoints: an annotation an object; visibility 2 where a landmark is seen, 1 where it is hidden, and 0 where it is missing."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, objects in enumerate(_by_image(found), 1):
        width, height = objects[0].size
        images.append({"id": number, "file_name": objects[0].name, "width": width, "height": height})
        annotations += [_annotation(len(annotations) + i, number, each) for i, each in enumerate(objects, 1)]
    category = {"id": 1, "name": "object", "supercategory": "object", "keypoints": list(names), "skeleton": []}
    content = {
        "info": {"description": f"landmarks by {model}"},
        "images": images,
        "annotations": annotations,
        "categories": [category],
    }
    return json.dumps(content) + "\n"


def to_label_studio(found: Sequence[Found], names: Sequence[str], model: str) -> str:
    """Tasks with predictions, for a labelling configuration of <Image name="image" value="$image"/> and <KeyPointLabels name="landmarks"
    toName="image"> with a label for each landmark. Local images are those of a local storage whose root is their folder.
    """
    return json.dumps([_task(objects, names, model) for objects in _by_image(found)]) + "\n"


def to_cvat(found: Sequence[Found], names: Sequence[str], model: str) -> str:
    """CVAT for images 1.1: points with a label for each landmark, occluded where it is hidden."""
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    task = ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "task")
    ElementTree.SubElement(task, "name").text = model
    labels = ElementTree.SubElement(task, "labels")
    for name in names:
        label = ElementTree.SubElement(labels, "label")
        for tag, text in (("name", name), ("type", "points"), ("attributes", None)):
            ElementTree.SubElement(label, tag).text = text
    for number, objects in enumerate(_by_image(found)):
        width, height = map(str, objects[0].size)
        image = ElementTree.SubElement(root, "image", id=str(number), name=objects[0].name, width=width, height=height)
        for name, x, y, _, hidden in (point for each in objects for point in each.present(names)):
            at = {"points": f"{x:.2f},{y:.2f}", "occluded": str(int(hidden)), "source": "auto", "z_order": "0"}
            ElementTree.SubElement(image, "points", {"label": name, **at})
    ElementTree.indent(root)
    return ElementTree.tostring(root, "unicode", xml_declaration=True) + "\n"


def to_fiftyone(found: Sequence[Found], names: Sequence[str], model: str) -> str:
    """samples.json of a FiftyOneDataset folder: each image with a field `landmarks` of Keypoints, and the pose of its first object."""
    return json.dumps({"samples": [_sample(objects, names) for objects in _by_image(found)]}) + "\n"


FORMATS: dict[str, Format] = {
    "json": to_json, "csv": to_csv, "coco": to_coco, "labelstudio": to_label_studio, "cvat": to_cvat, "fiftyone": to_fiftyone,
}  # fmt: skip


def _by_image(found: Sequence[Found]) -> list[list[Found]]:
    """The objects of each image, which come one after the other."""
    return [list(objects) for _, objects in groupby(found, lambda each: each.name)]


def _cells(found: Found) -> list[Any]:
    sure = zip(_points(found), found.scores.tolist(), found.visibility.tolist(), strict=True)
    return [cell for point, *rest in sure for cell in (*(point or ("", "")), *rest)]


def _points(found: Found) -> list[list[float] | None]:
    return [point if np.isfinite(point).all() else None for point in found.points.tolist()]


def _annotation(number: int, image: int, found: Found) -> dict[str, Any]:
    (width, height), (x0, y0, x1, y1) = found.size, found.box
    left, top, right, bottom = max(0.0, x0), max(0.0, y0), min(float(width), x1), min(float(height), y1)
    points = _points(found)
    return {
        "id": number, "image_id": image, "category_id": 1, "iscrowd": 0,
        "keypoints": [
            value
            for point, hidden in zip(points, found.hidden, strict=True)
            for value in ((*point, 1 if hidden else 2) if point else (0, 0, 0))
        ],
        "num_keypoints": sum(point is not None for point in points),
        "bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top),
        "score": round(float(found.scores.mean()), 4),
    }  # fmt: skip


def _task(objects: list[Found], names: Sequence[str], model: str) -> dict[str, Any]:
    found = objects[0]
    width, height = found.size
    result = [
        {
            "id": f"{name}-{number}", "type": "keypointlabels", "from_name": "landmarks", "to_name": "image", "score": score,
            "original_width": width, "original_height": height, "image_rotation": 0,
            "value": {"x": 100 * x / width, "y": 100 * y / height, "width": DOT, "keypointlabels": [name]},
        }
        for number, (name, x, y, score, _) in enumerate(point for each in objects for point in each.present(names))
    ]  # fmt: skip
    image = found.uri if "://" in found.uri else f"/data/local-files/?d={quote(found.name)}"
    score = round(float(np.mean([each.scores for each in objects])), 4)
    return {"data": {"image": image}, "predictions": [{"model_version": model, "score": score, "result": result}]}


def _sample(objects: list[Found], names: Sequence[str]) -> dict[str, Any]:
    found = objects[0]
    width, height = found.size
    points = [
        {"_cls": "Keypoint", "label": name, "points": [[x / width, y / height]], "confidence": [score]}
        for each in objects
        for name, x, y, score, _ in each.present(names)
    ]
    return {
        "filepath": found.uri if "://" in found.uri else os.path.abspath(found.uri),
        "metadata": {"_cls": "ImageMetadata", "width": width, "height": height},
        "landmarks": {"_cls": "Keypoints", "keypoints": points},
        "pose": found.pose,
    }
