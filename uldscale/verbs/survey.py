"""What is at a place that somebody calls their images: of which kind it is, how many there are, and what is odd about them.

Law: all is said of a sample that is drawn by ids, so that two looks at the same images say the same.
"""

import os
import random
import statistics
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from uldscale import files
from uldscale.config import validate
from uldscale.data.images import BrokenImage, Pixels
from uldscale.data.inspection import opened
from uldscale.data.listing import DataConfig, Split, list_records, servers_of
from uldscale.data.sources import Record

SAMPLE = 64
"""Images that are opened."""
MANY = 0.25
"""Share of the sample from which on something is said of the images."""
SQUARE = 1.25
"""Longer by shorter side of an image that may well be a crop of one object."""
PLAIN = 24.0
"""Levels of 255 by which the border of an image on a plain background varies at most (nine tenths of it), and by which an object differs
from it at least.
"""
PART = 0.02
"""Share of the image that a separate object has at least."""
_SIDE = 96
_TRAIN, _TEST = ("train", "training"), ("test", "testing", "val", "valid", "validation")


@dataclass(frozen=True)
class Look:
    """What one image shows."""

    width: int
    height: int
    sha256: str
    plain: bool
    """Whether its border has one colour, from which objects can be told."""
    share: float
    """Of the image that is no such background; 1 where the background is not plain."""
    objects: int
    """Separate things on a plain background; 1 where it is not plain."""


@dataclass(frozen=True)
class Survey:
    """A place of images, and a sample of them."""

    listed: list[tuple[Split, Record]]
    looks: list[Look]
    broken: list[str]
    """Of the sample: ids with reasons."""

    @classmethod
    def of(cls, data: DataConfig) -> "Survey":
        """List the images of some settings and open a sample. Raises DataError when there are none."""
        listed = list_records(data)
        drawn = random.Random(0).sample(listed, min(SAMPLE, len(listed)))
        servers = servers_of(data)
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda item: _look(item[1], servers), drawn))
        return cls(listed, [look for look in found if isinstance(look, Look)], [x for x in found if isinstance(x, str)])

    def images(self, split: Split) -> int:
        """How many a split has, broken ones among them."""
        return sum(own == split for own, _ in self.listed)

    @property
    def boxed(self) -> bool:
        """Whether the annotations say where the object is, in nine of ten images at least."""
        return sum(record.box is not None for _, record in self.listed) >= 0.9 * len(self.listed)

    @property
    def side(self) -> int:
        """Median of the shorter sides, in pixels; 0 when no image of the sample can be read."""
        return round(statistics.median([min(look.width, look.height) for look in self.looks] or [0]))

    def doubts(self) -> list[str]:
        """Signs that the images show more than the object, with what they are based on; empty when there are none."""
        return [*_crowded(self.listed), *_wide(self.looks), *_background(self.looks), *_several(self.looks)]

    def oddities(self) -> list[str]:
        """What else a person should know of the images."""
        said = (
            [f"{len(self.broken)} of {self._opened} opened images cannot be used, such as {self.broken[0]}"]
            if self.broken
            else []
        )
        if copies := len(self.looks) - len({look.sha256 for look in self.looks}):
            said.append(f"{copies} of {self._opened} opened images are copies of others; copies teach nothing")
        return said

    @property
    def _opened(self) -> int:
        return len(self.looks) + len(self.broken)


def describe(place: str, test: str | None = None, images: str | None = None) -> DataConfig:
    """The settings for a folder, a glob pattern, a list file or a COCO file, here or in a bucket.

    A folder that has nothing but folders for training and test is both of them.
    """
    kind = _kind(place)
    places = {"train": place, "test": test, "images": images}
    known: dict[str, Any] = {name: _whole(path) for name, path in places.items() if path is not None}
    if kind == "folder" and test is None:
        known |= _splits(known["train"])
    return validate(DataConfig, {"kind": kind, **known}, place)


def _kind(place: str) -> str:
    if any(sign in os.path.basename(place.rstrip("/")) for sign in "*?[") and not os.path.isdir(place):
        return "glob"
    return {".json": "coco", ".txt": "list", ".lst": "list"}.get(os.path.splitext(place)[1].lower(), "folder")


def _whole(path: str) -> str:
    """A job shall find its images from any folder."""
    return path.rstrip("/") if "://" in path else os.path.abspath(os.path.expanduser(path))


def _splits(folder: str) -> dict[str, str]:
    names = {name.lower(): name for name in files.names(folder) if not name.startswith(".")}
    train, test = (next((names[name] for name in known if name in names), None) for known in (_TRAIN, _TEST))
    if train and test and len(names) == 2:
        return {"train": files.join(folder, train), "test": files.join(folder, test)}
    return {}


def _look(record: Record, servers: Sequence[str]) -> Look | str:
    if record.broken:
        return f"{record.id} ({record.broken})"
    try:
        with opened(record.uri, servers) as image:
            return Look(image.width, image.height, image.sha256, *_shown(image.pixels))
    except BrokenImage as problem:
        return f"{record.id} ({problem.reason})"


def _shown(pixels: Pixels) -> tuple[bool, float, int]:
    """Whether a background is plain, the share of what stands on it, and how many things that are."""
    step = max(1, min(pixels.shape[:2]) // _SIDE)
    small = pixels[::step, ::step].astype(np.float32)
    border = np.concatenate([small[0], small[-1], small[:, 0], small[:, -1]])
    away = np.abs(border - np.median(border, axis=0)).max(-1)
    if np.quantile(away, 0.9) > PLAIN:
        return False, 1.0, 1
    other = np.abs(small - np.median(border, axis=0)).max(-1) > PLAIN
    # Closed, since a highlight or a shadow does not cut an object in two.
    parts, found = ndimage.label(ndimage.binary_closing(other, iterations=2))
    sizes = np.bincount(parts.ravel(), minlength=found + 1)[1:] / parts.size
    return True, float(other.mean()), int((sizes >= PART).sum())


def _crowded(listed: Sequence[tuple[Split, Record]]) -> list[str]:
    annotated = Counter(record.uri for _, record in listed if record.box is not None and not record.broken)
    several = sum(number > 1 for number in annotated.values())
    if not several:
        return []
    return [f"{several:,} of {len(annotated):,} annotated images have several objects, by their annotations"]


def _wide(looks: Sequence[Look]) -> list[str]:
    number = sum(max(look.width, look.height) > SQUARE * min(look.width, look.height) for look in looks)
    if number < MANY * len(looks) or not number:
        return []
    return [
        f"{number} of {len(looks)} opened images are far from square, as photographs are that show more than one object; "
        "each will be stretched to a square"
    ]


def _background(looks: Sequence[Look]) -> list[str]:
    number = sum(look.plain and look.share < 0.4 for look in looks)
    if number < MANY * len(looks) or not number:
        return []
    return [f"in {number} of {len(looks)} opened images a background of one colour takes more than 60 % of the area"]


def _several(looks: Sequence[Look]) -> list[str]:
    number = sum(look.plain and look.objects > 1 for look in looks)
    if number < MANY * len(looks) or not number:
        return []
    return [f"in {number} of {len(looks)} opened images several separate things stand on a background of one colour"]
