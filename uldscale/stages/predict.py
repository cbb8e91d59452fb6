"""The verb `predict`: a trained detector on images and videos, as a file of some tool, or as pictures with the landmarks."""

import errno
import os
import re
from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
import typer

from uldscale import files
from uldscale.data.images import BrokenImage, Pixels
from uldscale.data.roi import Provider, RoiConfig, make_provider, margin_of
from uldscale.data.sources import Box, numbered
from uldscale.detector import LandmarkDetector
from uldscale.errors import DataError, IncompleteError, first_of
from uldscale.evaluation.plots import overlay as draw
from uldscale.formats import FORMATS, Found
from uldscale.runtime.progress import Progress
from uldscale.runtime.screen import screen
from uldscale.stages import pictures
from uldscale.stages.pictures import Picture

CHUNK = 16
"""Pictures in memory."""


def predict(
    model: str,
    images: list[str],
    *,
    format: str = "csv",
    output: str | None = None,
    overlay: str | None = None,
    boxes: str | None = None,
    backbone: str | None = None,
) -> None:
    """Find landmarks on images, videos and folders of images, on a GPU if there is one; print them or write them to `output`.

    `format` is one of `formats.FORMATS`; `overlay` a folder for pictures with landmarks; `boxes` a file with the object's box in each
    image, or those of several, by the ids of `pictures`; the second object of an image has "#2" in its id, and so on. Without
    it an image is the object, cut out as those of the training were. `backbone` is where the diffusion model is now.

    What cannot be used is named, and the next one goes on; at the end it raises IncompleteError. Raises DataError when an image is not
    there, two have one id, or a place cannot be written.
    """
    _require_places(format, output, overlay)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    detector = LandmarkDetector.from_pretrained(model, device=device, backbone=backbone)
    records, search = pictures.list_records(images), _Search(detector, _region(boxes, detector), overlay)
    with Progress("predict", pictures.count(records)) as progress:
        for chunk in _chunks(pictures.pictures(records)):
            search.look(chunk)
            progress.advance(len(chunk))
    if search.found:
        _write(FORMATS[format](search.found, detector.names, _title(model)), format, output)
    if search.missed:
        raise IncompleteError(
            f"{len(search.missed)} images or videos have no landmarks, or not all ({first_of(search.missed)}); mend or leave them out"
        )


class _Search:
    """What was found so far, and what was missed."""

    def __init__(self, detector: LandmarkDetector, region: Provider, overlay: str | None) -> None:
        self.found: list[Found] = []
        self.missed: list[str] = []
        self._detector, self._region, self._overlay = detector, region, overlay

    def look(self, chunk: list[Picture]) -> None:
        seen = [object for picture in chunk for object in self._objects(picture)]
        if not seen:
            return
        found = self._detector([image for _, _, image, _ in seen], [box for *_, box in seen])
        for row, (picture, id, image, box) in enumerate(seen):
            each = Found(
                id=id, name=picture.name, uri=picture.record.uri, size=(image.shape[1], image.shape[0]), box=box,
                points=np.round(found.points[row].astype(np.float64), 2), scores=np.round(found.scores[row].astype(np.float64), 4),
                visibility=np.round(found.visibility[row].astype(np.float64), 3), pose=int(found.poses[row]),
            )  # fmt: skip
            self.found.append(each)
            if self._overlay:
                self._draw(self._overlay, each, image)

    def _objects(self, picture: Picture) -> list[tuple[Picture, str, Pixels, Box]]:
        """(picture, id, its pixels, where to look) of each object; none, and a word about it, where nothing can be found."""
        try:
            if picture.pixels is None:
                raise BrokenImage(picture.reason)
            boxes = self._region(picture.record, picture.pixels)
        except BrokenImage as problem:
            self._miss(picture.record.uri, problem.reason)
            return []
        return [(picture, numbered(picture.record.id, i), picture.pixels, box) for i, box in enumerate(boxes)]

    def _draw(self, folder: str, found: Found, image: Pixels) -> None:
        try:
            files.write_bytes(files.join(folder, f"{found.id}.png"), draw(image, found.points, found.hidden))
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            self._miss(found.uri, "its name is too long for a picture in --overlay")

    def _miss(self, uri: str, reason: str) -> None:
        self.missed.append(f"{uri}: {reason}")
        screen().say(self.missed[-1])


def _chunks(found: Iterator[Picture]) -> Iterator[list[Picture]]:
    while chunk := list(islice(found, CHUNK)):
        yield chunk


def _region(boxes: str | None, detector: LandmarkDetector) -> Provider:
    """Where the object is: the crop shows as much around it as the crops of the training did."""
    if boxes is None:
        return make_provider(RoiConfig())
    return make_provider(
        RoiConfig(provider="file", file=boxes, objects="all", margin=margin_of(detector.config.border))
    )


def _require_places(format: str, output: str | None, overlay: str | None) -> None:
    """That what is found can be written, told before it is sought. Raises DataError, and OSErrors of the file system."""
    if format == "fiftyone" and output is None:
        raise DataError("--format fiftyone writes a folder of files; give it with --output FOLDER")
    if output is not None and format != "fiftyone" and os.path.exists(output) and not os.path.isfile(output):
        raise DataError(f"--output {output!r} is no file that can be replaced; give another, or leave it out to print")
    folders = [overlay, output if format == "fiftyone" or output is None else os.path.dirname(output) or "."]
    for folder in filter(None, folders):
        trial = files.join(folder, ".uldscale")
        files.write_bytes(trial, b"")
        files.remove(trial)


def _write(text: str, format: str, output: str | None) -> None:
    if output is None:
        typer.echo(text, nl=False)
    elif format == "fiftyone":
        files.write_bytes(files.join(output, "samples.json"), text.encode())
        files.write_json(files.join(output, "metadata.json"), {"media_type": "image"})
    else:
        files.write_bytes(output, text.encode())


def _title(model: str) -> str:
    """The name of a model among methods: that of its run, or of its repository."""
    *_, run, own = f"./{model}".rstrip("/").split("/")
    return re.sub(r"[^A-Za-z0-9._-]+", "-", f"uldscale-{run if own == 'model' else own}")
