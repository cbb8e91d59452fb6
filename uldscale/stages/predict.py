"""The verb `predict`: a trained detector on the user's images, as lines, JSON, or pictures with the landmarks on them."""

import json
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray

from uldscale import files
from uldscale.data.images import BrokenImage, decode
from uldscale.data.sources import image_files
from uldscale.detector import LandmarkDetector
from uldscale.errors import DataError, IncompleteError
from uldscale.evaluation.plots import overlay as draw

CHUNK = 16


def predict(model: str, images: list[str], *, as_json: bool, overlay: str | None) -> None:
    """Print the landmarks of each image in its pixels; `overlay` is a folder for pictures.

    Raises IncompleteError after all others are done when an image could not be read.
    """
    detector = LandmarkDetector.load(model)
    broken: list[str] = []
    records = []
    for record, picture in _find(detector, list(_expand(images)), broken):
        if overlay:
            name = os.path.splitext(os.path.basename(record["image"]))[0]
            points = np.array([point or (np.nan, np.nan) for point in record["landmarks"]], np.float64)
            files.write_bytes(files.join(overlay, f"{name}.png"), draw(picture, points))
        records.append(record)
        if not as_json:
            typer.echo(_line(record))
    if as_json:
        typer.echo(json.dumps({"model": model, "images": records}))
    if broken:
        raise IncompleteError(
            f"{len(broken)} of {len(broken) + len(records)} images could not be read: {'; '.join(broken)}"
        )


def _expand(images: list[str]) -> Iterator[str]:
    for image in images:
        if os.path.isdir(image):
            yield from image_files(image)
        elif files.exists(image):
            yield image
        else:
            raise DataError(f"image {image!r} is not there; give image files or folders of images")


def _find(
    detector: LandmarkDetector, paths: list[str], broken: list[str]
) -> Iterator[tuple[dict[str, Any], NDArray[np.uint8]]]:
    for start in range(0, len(paths), CHUNK):
        pictures: dict[str, NDArray[np.uint8]] = {}
        for path in paths[start : start + CHUNK]:
            try:
                pictures[path] = decode(path)
            except BrokenImage as error:
                broken.append(f"{path}: {error}")
        if not pictures:
            continue
        found = detector(list(pictures.values()))
        for position, (path, picture) in enumerate(pictures.items()):
            points = np.round(found.points[position].astype(np.float64), 2)
            yield (
                {
                    "image": path,
                    "landmarks": [None if np.isnan(point).any() else point.tolist() for point in points],
                    "scores": np.round(found.scores[position].astype(np.float64), 4).tolist(),
                    "pose": int(found.poses[position]),
                },
                picture,
            )


def _line(record: dict[str, Any]) -> str:
    points = " ".join("-" if point is None else f"{point[0]:g},{point[1]:g}" for point in record["landmarks"])
    return f"{record['image']}\t{points}"
