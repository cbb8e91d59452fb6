"""The verb `predict`: a trained detector on the user's images, as lines, JSON, or pictures with the landmarks on them."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import typer

from uldscale import files
from uldscale.data.images import BrokenImage, Pixels, decode
from uldscale.data.roi import Provider, RoiConfig, make_provider, margin_of
from uldscale.data.sources import Box, Record, from_folder, ids_of, numbered
from uldscale.detector import LandmarkDetector
from uldscale.errors import DataError, first_of
from uldscale.evaluation.plots import overlay as draw

CHUNK = 16


def predict(
    model: str,
    images: list[str],
    *,
    as_json: bool,
    overlay: str | None,
    boxes: str | None = None,
    backbone: str | None = None,
) -> None:
    """Print the landmarks of each image in its pixels; on a GPU if there is one.

    `overlay` is a folder for pictures; `boxes` a file with the object's box in each image, or those of several objects, by the ids of
    `data.kind: folder`; the second object of an image has "#2" in its id, and so on.
    Without it an image is the object, cut out as those of the training were. `backbone` is where the diffusion model is now. Raises
    DataError when an image is not there or two have one id, and after all others are done when one could not be read or has no box.
    """
    detector = LandmarkDetector.load(model, "cuda" if torch.cuda.is_available() else "cpu", backbone)
    listed = [record for image in images for record in _expand(image)]
    if overlay or boxes:
        _require_distinct(listed)
    broken: list[str] = []
    records = []
    for record, found, picture in _find(detector, listed, _region(boxes, detector), broken):
        if overlay:
            points = np.array([point or (np.nan, np.nan) for point in found["landmarks"]], np.float64)
            files.write_bytes(files.join(overlay, f"{record.id}.png"), draw(picture, points))
        records.append(found)
        if not as_json:
            typer.echo(_line(found))
    if as_json:
        typer.echo(json.dumps({"model": model, "images": records}))
    if broken:
        raise DataError(
            f"{len(broken)} of {len(listed)} images have no landmarks ({first_of(broken)}); mend or leave them out"
        )


def _expand(image: str) -> list[Record]:
    if os.path.isdir(image):
        return from_folder(image)
    if not files.exists(image):
        raise DataError(f"image {image!r} is not there; give image files or folders of images")
    return [Record(ids_of([os.path.basename(image)])[0], image)]


def _require_distinct(listed: list[Record]) -> None:
    first: dict[str, Record] = {}
    for record in listed:
        other = first.setdefault(record.id, record)
        if other is not record:
            raise DataError(
                f"{other.uri} and {record.uri} have one name, {record.id!r}, for boxes and pictures; give them in two calls"
            )


def _region(boxes: str | None, detector: LandmarkDetector) -> Provider:
    """Where the object is: the crop shows as much around it as the crops of the training did."""
    if boxes is None:
        return make_provider(RoiConfig())
    return make_provider(
        RoiConfig(provider="file", file=boxes, objects="all", margin=margin_of(detector.config.border))
    )


def _find(
    detector: LandmarkDetector, listed: list[Record], region: Provider, broken: list[str]
) -> Iterator[tuple[Record, dict[str, Any], Pixels]]:
    for start in range(0, len(listed), CHUNK):
        seen: list[tuple[Record, Pixels, Box]] = []
        for record in listed[start : start + CHUNK]:
            try:
                picture = decode(record.uri)
                for i, box in enumerate(region(record, picture)):
                    seen.append((replace(record, id=numbered(record.id, i)), picture, box))
            except BrokenImage as error:
                broken.append(f"{record.uri}: {error}")
        if not seen:
            continue
        found = detector([picture for _, picture, _ in seen], [box for _, _, box in seen])
        for position, (record, picture, _) in enumerate(seen):
            points = np.round(found.points[position].astype(np.float64), 2)
            yield (
                record,
                {
                    "id": record.id,
                    "image": record.uri,
                    "landmarks": [None if np.isnan(point).any() else point.tolist() for point in points],
                    "scores": np.round(found.scores[position].astype(np.float64), 4).tolist(),
                    "pose": int(found.poses[position]),
                },
                picture,
            )


def _line(record: dict[str, Any]) -> str:
    points = " ".join("-" if point is None else f"{point[0]:g},{point[1]:g}" for point in record["landmarks"])
    return f"{record['image']}\t{points}"
