"""From the settings to a function that says where the objects of an image are."""

import threading
from collections.abc import Callable
from importlib import metadata
from typing import Any, Protocol

from uldscale.data.images import BrokenImage, Pixels
from uldscale.data.orientation import UPRIGHT, Turn
from uldscale.data.roi.box_file import read_boxes
from uldscale.data.roi.boxes import by_size, checked, shows, square
from uldscale.data.roi.settings import DETECTORS, RoiConfig
from uldscale.data.sources import Box, Record

Detector = Callable[[Pixels], list[Box]]
"""From an image (H, W, 3) RGB to the boxes of all wanted objects, in any order."""
_Find = Callable[[Record, Pixels, Turn], list[Box]]


class Provider(Protocol):
    """Where the objects of an image are."""

    def __call__(self, record: Record, image: Pixels, turn: Turn = UPRIGHT) -> list[Box]:
        """The boxes to crop (x0, y0, x1, y1) px, the largest object first; one of them with `objects: largest`.

        All but the whole image are squares. `turn` takes boxes that a person gave to the upright image. Raises BrokenImage when there
        is none.
        """


def make_provider(config: RoiConfig) -> Provider:
    """The provider of the settings. Raises DataError for a bad file, model or category, or a missing package."""
    if config.provider == "full":
        return _full
    find, most = _finder(config), 1 if config.objects == "largest" else None

    def provide(record: Record, image: Pixels, turn: Turn = UPRIGHT) -> list[Box]:
        boxes = by_size(find(record, image, turn))[:most]
        return [checked(square(box, config.margin), image) for box in boxes]

    return provide


def describe(config: RoiConfig) -> dict[str, Any]:
    """What was used, for results: provider, objects, margin or context and, of a detector, its model, package and version."""
    about: dict[str, Any] = {"provider": config.provider, "objects": config.objects}
    if config.provider == "full":
        return {**about, "context": config.context}
    about["margin"] = config.margin
    if config.provider == "file":
        about["file"] = config.file
    if config.provider in DETECTORS:
        about.update(threshold=config.threshold, **_model(config))
    return about


def _model(config: RoiConfig) -> dict[str, Any]:
    match config.provider:
        case "detectron2":
            said = {"model": config.model, "weights": config.weights or "model zoo", "category": config.category}
            return {**said, **_version("detectron2")}
        case "text":
            said = {"model": config.model, "revision": config.revision or "latest", "prompt": str(config.prompt)}
            return {**said, **_version("transformers")}
    return {"model": "histograms of oriented gradients", **_version("dlib", "dlib-bin")}


def _version(*names: str) -> dict[str, str]:
    for name in names:
        try:
            return {"package": name, "version": metadata.version(name)}
        except metadata.PackageNotFoundError:
            continue
    return {"package": names[0], "version": "not installed where the index was joined"}


def _full(record: Record, image: Pixels, turn: Turn = UPRIGHT) -> list[Box]:
    return [(0.0, 0.0, float(image.shape[1]), float(image.shape[0]))]


def _finder(config: RoiConfig) -> _Find:
    match config.provider:
        case "annotation":
            return _annotation
        case "file":
            return _file(config)
        case "detectron2":
            from uldscale.data.roi.detectron2 import load_detectron2

            return _detected(load_detectron2(config), config, config.category)
        case "text":
            from uldscale.data.roi.text import load_text

            return _detected(load_text(config), config, f'"{config.prompt}"')
    from uldscale.data.roi.face import load_face

    return _detected(load_face(config), config, "face")


def _annotation(record: Record, image: Pixels, turn: Turn) -> list[Box]:
    if record.box is None:
        raise BrokenImage("no annotation with a bbox, which roi.provider 'annotation' needs")
    return [turn.box(record.box)]


def _file(config: RoiConfig) -> _Find:
    boxes = read_boxes(str(config.file), several=config.objects == "all")

    def find(record: Record, image: Pixels, turn: Turn) -> list[Box]:
        if record.id not in boxes:
            raise BrokenImage(f"{config.file} has no box for {record.id!r}")
        if not boxes[record.id]:
            raise BrokenImage(f"{config.file} says that {record.id!r} has no object")
        return [turn.box(box) for box in boxes[record.id]]

    return find


def _detected(detect: Detector, config: RoiConfig, wanted: str) -> _Find:
    one_at_a_time = threading.Lock()

    def find(record: Record, image: Pixels, turn: Turn) -> list[Box]:
        with one_at_a_time:
            boxes = [box for box in detect(image) if shows(image, box)]
        if not boxes:
            raise BrokenImage(f"no {wanted} found with a score of at least {config.threshold:g}")
        return boxes

    return find
