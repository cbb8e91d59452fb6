"""Which images a run sees: from settings to records, before any image is opened."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from uldscale.config import Settings
from uldscale.data import annotations, sources
from uldscale.data.datasets import READERS
from uldscale.data.roi import RoiConfig
from uldscale.data.sources import Record
from uldscale.errors import DataError

Split = Literal["train", "test"]

_BOXED = ("coco", "celeba", "ls3d", "mtfl", "cat", "pts", "wflw")
_BEGINNING = r"^(https?://|[a-z][a-z0-9+.-]*://[^/]+/(.*/)?)$"


class DataConfig(Settings):
    """Which images a run sees."""

    kind: Literal["folder", "glob", "list", "coco", "faces3d", "celeba", "aflw", "ls3d", "mtfl", "cat", "pts", "wflw"]
    """folder of images, glob pattern, text file of paths, COCO keypoints JSON, generated faces, or a data set of the field: CelebA with
    MAFL, AFLW, 300W-LP with LS3D-W, MTFL, CAT, 300-W, WFLW."""
    train: str | int
    """training images: a folder, pattern or file by kind; for faces3d their number; for a data set its folder, with both splits."""
    test: str | int | None = None
    """test images, in the same form; not for a data set, whose split is fixed."""
    images: str | None = None
    """folder of the images that a list or COCO file names; by default where that file is, for COCO or images/ there."""
    allow: tuple[Annotated[str, Field(pattern=_BEGINNING)], ...] = ()
    """beginnings of URIs elsewhere that a list or COCO file may name: https:// (public addresses), or one with a server or bucket, as
    s3://faces/ or http://10.0.0.5:8000/photos/."""
    size: int = Field(128, ge=32, multiple_of=8)
    """side in pixels of the square crop that the backbone sees."""
    roi: RoiConfig = RoiConfig()
    """which part of an image the crop shows."""
    max_yaw: float = Field(90.0, ge=0, le=90)
    """faces3d only: the largest yaw in degrees."""
    limit: int | None = Field(None, ge=1)
    """at most this many images of each split, chosen by a hash of their ids."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        wanted, what = (int, "a number of images") if self.kind == "faces3d" else (str, "a path")
        for name, value in (("train", self.train), ("test", self.test)):
            if value is not None and not isinstance(value, wanted):
                raise ValueError(f"data.{name} must be {what} for data.kind {self.kind!r}")
            if isinstance(value, int) and not 1 <= value <= sources.TEST_SEED:
                raise ValueError(f"data.{name} must be within 1 and {sources.TEST_SEED}")
        if self.kind in READERS and self.test is not None:
            raise ValueError(f"data.test must be left out for data.kind {self.kind!r}: data.train holds both splits")
        if isinstance(self.test, str) and self.test.rstrip("/") == str(self.train).rstrip("/"):
            raise ValueError(
                "data.test must be other images than data.train; left out, methods are judged on the training images"
            )
        if self.roi.provider == "annotation" and self.kind not in _BOXED:
            raise ValueError(
                f"roi.provider 'annotation' needs data.kind {', '.join(map(repr, _BOXED))}, which have boxes"
            )
        if self.images is not None and self.kind not in ("list", "coco"):
            raise ValueError(f"data.images has no meaning for data.kind {self.kind!r}; leave it out")
        if self.allow and self.kind not in ("list", "coco"):
            raise ValueError(f"data.allow has no meaning for data.kind {self.kind!r}; leave it out")
        return self


def list_records(config: DataConfig) -> list[tuple[Split, Record]]:
    """(split, record) of all images of the settings, sorted by id; ids unique. Raises DataError."""
    found = READERS[config.kind](str(config.train)) if config.kind in READERS else _sources(config)
    if config.limit is not None:
        found = {split: sorted(records, key=_draw)[: config.limit] for split, records in found.items()}
    # A file that both splits name needs two rows; renaming all ids, not just that one, keeps them of one form.
    ids = [record.id for records in found.values() for record in records]
    prefix = len(set(ids)) < len(ids)
    listed = [
        (split, replace(record, id=f"{split}/{record.id}") if prefix else record)
        for split, records in found.items()
        for record in records
    ]
    _require_text(listed)
    return sorted(listed, key=lambda item: item[1].id)


def servers_of(config: DataConfig) -> list[str]:
    """URIs of the web servers that the settings name themselves, which may have inside addresses."""
    places = [str(place) for place in (config.train, config.test, config.images, *config.allow)]
    return sorted(place for place in places if re.match(r"https?://[^/]", place))


def _sources(config: DataConfig) -> dict[Split, list[Record]]:
    found: dict[Split, list[Record]] = {"train": _source(config, config.train, 0)}
    if config.test is not None:
        found["test"] = _source(config, config.test, sources.TEST_SEED)
    return found


def _source(config: DataConfig, place: str | int, first_seed: int) -> list[Record]:
    match config.kind:
        case "folder":
            return sources.from_folder(str(place))
        case "glob":
            return sources.from_glob(str(place))
        case "list":
            return sources.from_list(str(place), config.images, config.allow)
        case "coco":
            return annotations.read_coco(str(place), config.images, config.allow)
    return sources.from_faces3d(int(place), first_seed, config.size, config.max_yaw)


def _draw(record: Record) -> bytes:
    return hashlib.sha256(record.id.encode(errors="replace")).digest()


def _require_text(listed: Sequence[tuple[Split, Record]]) -> None:
    for _, record in listed:
        if any(0xD800 <= ord(letter) <= 0xDFFF for letter in record.uri):
            raise DataError(f"file name {ascii(record.uri)} is not UTF-8; rename the file")
