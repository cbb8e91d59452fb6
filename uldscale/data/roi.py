"""Regions of interest: which part of an image a run looks at.

Prior work crops with the ground truth; what was used here is in the settings, so every result can name it.
"""

import csv
import io
import json
import math
import threading
from collections.abc import Callable
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from uldscale.config import Settings
from uldscale.data.images import BrokenImage, Pixels
from uldscale.data.sources import Box, Record, read_text
from uldscale.errors import DataError

Provider = Callable[[Record, Pixels], Box]
_FARTHEST = 4.0  # a box this many times wider than the image is a mistake, not a region


class RoiConfig(Settings):
    """Where the object is in each image."""

    provider: Literal["full", "annotation", "file", "detectron2"] = "full"
    """full: whole image, aspect not kept; annotation: bbox of the COCO file; file: own boxes; detectron2: detection."""
    margin: float = Field(0.0, ge=0, le=2)
    """added on every side of the box, as a fraction of its longer side; not for full."""
    context: float = Field(0.0, ge=0, le=0.4)
    """share of the image on every side that is not the object; only for full, of images cropped with a margin of at most 2."""
    file: str | None = None
    """JSON {"id": [x0, y0, x1, y1]} or CSV with rows id,x0,y0,x1,y1 in pixels; for provider file."""
    model: str = "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml"
    """config of detectron2's model zoo; for provider detectron2."""
    category: str = "person"
    """class to look for, by its name in that model's data set, such as person or cat."""
    threshold: float = Field(0.5, ge=0, le=1)
    """least score of a detection."""
    device: Literal["cpu", "cuda"] = "cpu"
    """where detectron2 runs."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.provider == "file") != (self.file is not None):
            raise ValueError("roi.file names the box file of roi.provider 'file'; give both or neither")
        if self.provider == "full" and self.margin:
            raise ValueError("roi.margin has no effect on roi.provider 'full'; leave it out or choose another provider")
        if self.provider != "full" and self.context:
            raise ValueError("roi.context is for roi.provider 'full'; boxes of the others get theirs from roi.margin")
        return self

    @property
    def border(self) -> float:
        """Share of the crop on every side that lies outside the object: no landmark is sought there."""
        return self.context or self.margin / (1 + 2 * self.margin)


def make_provider(config: RoiConfig) -> Provider:
    """A function from a record and its pixels to the box (x0, y0, x1, y1) px to crop; it raises BrokenImage when
    there is none. All boxes but the whole image are squares. Raises DataError for a bad file or a missing package.
    """
    if config.provider == "full":
        return lambda record, image: (0.0, 0.0, float(image.shape[1]), float(image.shape[0]))
    find = _finders[config.provider](config)
    return lambda record, image: _checked(square(find(record, image), config.margin), image)


def square(box: Box, margin: float) -> Box:
    """The square around the centre of a box; side: the longer side of the box, plus margin of it at either end."""
    x0, y0, x1, y1 = box
    half = max(x1 - x0, y1 - y0) * (0.5 + margin)
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    return x - half, y - half, x + half, y + half


def margin_of(border: float) -> float:
    """The margin around a box whose crop has this border: `RoiConfig.border` the other way round, to nine digits."""
    return round(border / (1 - 2 * border), 9)


def read_boxes(path: str) -> dict[str, Box]:
    """Boxes by image id of a JSON or CSV file. Raises DataError that names the entry."""
    text = read_text(path)
    entries = _csv_entries(path, text) if path.lower().endswith(".csv") else _json_entries(path, text)
    return {id: _parse(path, id, values) for id, values in entries.items()}


def best(boxes: NDArray[Any], scores: NDArray[Any], classes: NDArray[Any], wanted: int, threshold: float) -> Box | None:
    """The box (4,) of the highest score among those of one class; None when no score reaches the threshold."""
    good = np.flatnonzero((classes == wanted) & (scores >= threshold))
    if not len(good):
        return None
    x0, y0, x1, y1 = boxes[good[np.argmax(scores[good])]]
    return float(x0), float(y0), float(x1), float(y1)


def _annotation(config: RoiConfig) -> Provider:
    def find(record: Record, image: Pixels) -> Box:
        if record.box is None:
            raise BrokenImage("no annotation with a bbox, which roi.provider 'annotation' needs")
        return record.box

    return find


def _file(config: RoiConfig) -> Provider:
    boxes = read_boxes(str(config.file))

    def find(record: Record, image: Pixels) -> Box:
        if record.id not in boxes:
            raise BrokenImage(f"{config.file} has no box for this id")
        return boxes[record.id]

    return find


def _detectron2(config: RoiConfig) -> Provider:
    predictor, wanted = _load_detector(config)
    one_at_a_time = threading.Lock()

    def find(record: Record, image: Pixels) -> Box:
        with one_at_a_time:
            found = predictor(np.ascontiguousarray(image[:, :, ::-1]))["instances"].to("cpu")
        boxes, classes = found.pred_boxes.tensor.numpy(), found.pred_classes.numpy()
        box = best(boxes, found.scores.numpy(), classes, wanted, config.threshold)
        if box is None:
            raise BrokenImage(f"no {config.category} found with a score of at least {config.threshold:g}")
        return box

    return find


def _load_detector(config: RoiConfig) -> tuple[Callable[[Pixels], Any], int]:
    """A predictor of BGR images and the number of the wanted class."""
    try:
        from detectron2 import model_zoo
        from detectron2.config import get_cfg
        from detectron2.data import MetadataCatalog
        from detectron2.engine import DefaultPredictor
    except ImportError as error:
        raise DataError(
            f"roi.provider 'detectron2' needs a package that is not installed ({error.name}): build detectron2 from "
            "its repository github.com/facebookresearch/detectron2, or make boxes elsewhere and use roi.provider 'file'"
        ) from None
    settings = get_cfg()
    try:
        settings.merge_from_file(model_zoo.get_config_file(config.model))
    except RuntimeError as error:
        raise DataError(f"roi.model {config.model!r}: {error}; give a name such as {RoiConfig().model}") from None
    settings.MODEL.WEIGHTS = model_zoo.get_checkpoint_url(config.model)
    settings.MODEL.DEVICE = config.device
    settings.MODEL.ROI_HEADS.SCORE_THRESH_TEST = config.threshold
    names = list(MetadataCatalog.get(settings.DATASETS.TRAIN[0]).thing_classes)
    if config.category not in names:
        raise DataError(f"roi.category {config.category!r} is not a class of {config.model}: {', '.join(names)}")
    return DefaultPredictor(settings), names.index(config.category)


_finders: dict[str, Callable[[RoiConfig], Provider]] = {
    "annotation": _annotation,
    "file": _file,
    "detectron2": _detectron2,
}


def _checked(box: Box, image: Pixels) -> Box:
    height, width = image.shape[:2]
    x0, y0, x1, y1 = box
    text = "region ({:g}, {:g}, {:g}, {:g})".format(*box)
    if not x1 - x0 >= 1:
        raise BrokenImage(f"{text} is less than a pixel wide")
    if x1 - x0 > _FARTHEST * max(width, height):
        raise BrokenImage(f"{text} is over {_FARTHEST:g} times as wide as the image of {width} x {height} px")
    if not (0 <= (x0 + x1) / 2 <= width and 0 <= (y0 + y1) / 2 <= height):
        raise BrokenImage(f"{text} has its centre outside the image of {width} x {height} px")
    return box


def _json_entries(path: str, text: str) -> dict[str, Any]:
    try:
        entries = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is not JSON: {error.msg} at line {error.lineno} column {error.colno}") from None
    if not isinstance(entries, dict):
        raise DataError(f'{path} holds a {type(entries).__name__}; wanted {{"id": [x0, y0, x1, y1], ...}}')
    return entries


def _csv_entries(path: str, text: str) -> dict[str, Any]:
    rows = [row for row in csv.reader(io.StringIO(text)) if row]
    if rows and rows[0][0] == "id":
        rows = rows[1:]
    entries = {row[0]: row[1:] for row in rows}
    if len(entries) < len(rows):
        raise DataError(f"{path} has several boxes for one id; wanted one row id,x0,y0,x1,y1 an image")
    return entries


def _parse(path: str, id: str, values: Any) -> Box:
    try:
        x0, y0, x1, y1 = (float(value) for value in values)
    except (TypeError, ValueError):
        raise DataError(f"{path}: box of {id!r} is {values!r:.60}; wanted four numbers x0, y0, x1, y1") from None
    if not (all(map(math.isfinite, (x0, y0, x1, y1))) and x0 < x1 and y0 < y1):
        raise DataError(f"{path}: box of {id!r} is {values!r:.60}; wanted x0 < x1 and y0 < y1")
    return x0, y0, x1, y1
