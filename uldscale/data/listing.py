"""Which images a run sees: from settings to records, before any image is opened."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from uldscale.config import Settings
from uldscale.data import annotations, sources
from uldscale.data.datasets import CONVENTIONS, READERS, pts
from uldscale.data.roi import RoiConfig
from uldscale.data.sources import Record
from uldscale.errors import DataError

Split = Literal["train", "test"]

_BOXED = ("coco", "celeba", "ls3d", "mtfl", "cat", "pts", "wflw")
_UNANNOTATED = ("folder", "glob", "list")
_BEGINNING = r"^(https?://|[a-z][a-z0-9+.-]*://[^/]+/(.*/)?)$"


class DataConfig(Settings):
    """Which images a run sees."""

    kind: Literal["folder", "glob", "list", "coco", "faces3d", "celeba", "aflw", "ls3d", "mtfl", "cat", "pts", "wflw"]
    """folder of images, glob pattern, text file of paths, COCO keypoints JSON, generated faces, or a data set of the field: CelebA with
    MAFL, AFLW, 300W-LP with LS3D-W, MTFL, CAT, 300-W, WFLW."""
    train: str | int
    """training images: a folder, pattern or file by kind; for faces3d their number; for a data set its folder, with both splits."""
    test: str | int | None = None
    """test images, in the same form; not for a data set, whose split is fixed (but for a folder of your own .pts files)."""
    images: str | None = None
    """folder of the images that a list or COCO file names; by default where that file is, for COCO or images/ there."""
    allow: tuple[Annotated[str, Field(pattern=_BEGINNING)], ...] = ()
    """beginnings of URIs elsewhere that a list or COCO file may name: https:// (public addresses), or one with a server or bucket, as
    s3://faces/ or http://10.0.0.5:8000/photos/."""
    category: str | tuple[str, ...] | None = None
    """COCO only: name of the category of the object, or of several; needed where the annotations are of more than one."""
    first_pixel: Literal[0, 1] | None = None
    """coordinates of the first pixel in .pts and COCO files; by default 1 for pts, as in those of 300-W, and 0 for COCO."""
    exif: Literal["stored", "upright"] | None = None
    """which pixels points and boxes count, of images that EXIF turns: the stored ones, or the upright ones that viewers show. None: an
    image whose annotation does not say so is quarantined."""
    size: int = Field(128, ge=32)
    """side in pixels of the square crop that the backbone sees, which says what it must be a multiple of: 64 for most diffusion models,
    14 for DINOv2."""
    roi: RoiConfig = RoiConfig()
    """which part of an image the crop shows."""
    max_yaw: float = Field(90.0, ge=0, le=90)
    """faces3d only: the largest yaw in degrees."""
    limit: int | None = Field(None, ge=1)
    """at most this many images of each split, chosen by a hash of their ids."""
    held_out: float | None = Field(None, gt=0, lt=1)
    """share of the people in `train` who are left out of training and judged on, in the place of `test`: settings are chosen on them,
    and the test images stay unseen. Images whose source names no person are one each."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        wanted, what = (int, "a number of images") if self.kind == "faces3d" else (str, "a path")
        for name, value in (("train", self.train), ("test", self.test)):
            if value is not None and not isinstance(value, wanted):
                raise ValueError(f"data.{name} must be {what} for data.kind {self.kind!r}")
            if isinstance(value, int) and not 1 <= value <= sources.TEST_SEED:
                raise ValueError(f"data.{name} must be within 1 and {sources.TEST_SEED}")
        if self.kind in READERS and self.kind != "pts" and self.test is not None:
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
        if self.category is not None and self.kind != "coco":
            raise ValueError(f"data.category has no meaning for data.kind {self.kind!r}; leave it out")
        if self.first_pixel is not None and self.kind not in ("coco", "pts"):
            raise ValueError(f"data.first_pixel has no meaning for data.kind {self.kind!r}; leave it out")
        if self.roi.objects == "all" and self.kind not in _UNANNOTATED:
            raise ValueError(
                f"roi.objects 'all' is for images without annotations (data.kind {', '.join(map(repr, _UNANNOTATED))}): "
                "an annotation belongs to one object"
            )
        return self

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of the chosen categories; none: whatever the file has."""
        return (self.category,) if isinstance(self.category, str) else self.category or ()

    @property
    def counted_from(self) -> int:
        """Coordinates of the first pixel in .pts and COCO files."""
        return self.first_pixel if self.first_pixel is not None else int(self.kind == "pts")


def list_records(config: DataConfig) -> list[tuple[Split, Record]]:
    """(split, record) of all images of the settings, sorted by id; ids unique. Raises DataError."""
    found = _sources(config)
    if config.held_out is not None:
        found = _hold_out(found["train"], config.held_out)
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


def conventions(config: DataConfig) -> str:
    """How annotations of the settings are read, in a sentence."""
    match config.kind:
        case "folder" | "glob" | "list":
            return "images without annotations"
        case "faces3d":
            return "generated faces: 68 projected points in pixels from the image's corner, with visibility and yaw"
        case "coco":
            said = annotations.said(config.categories, config.counted_from)
        case "pts":
            said = pts.said(config.counted_from)
        case _:
            said = CONVENTIONS[config.kind]
    return f"{said}; EXIF: {_EXIF[config.exif]}"


_EXIF = {
    "stored": "annotations are of the stored pixels and turned with the image",
    "upright": "annotations are of the upright image",
    None: "annotations are of the upright image, and images that EXIF turns are left out unless their annotation says so",
}


def _sources(config: DataConfig) -> dict[Split, list[Record]]:
    if config.kind == "pts":
        own = None if config.test is None or config.held_out is not None else str(config.test)
        return pts.read_pts(str(config.train), own, config.counted_from)
    if config.kind in READERS:
        return READERS[config.kind](str(config.train))
    found: dict[Split, list[Record]] = {"train": _source(config, config.train, 0)}
    if config.test is not None and config.held_out is None:
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
            return annotations.read_coco(
                str(place), config.images, config.allow, categories=config.categories, first_pixel=config.counted_from
            )
    return sources.from_faces3d(int(place), first_seed, config.size, config.max_yaw)


def _hold_out(records: Sequence[Record], share: float) -> dict[Split, list[Record]]:
    """Both splits, without a person in common; whoever is left out of a share is left out of a larger one."""
    people = sorted({_person(record) for record in records}, key=_hash)
    out = set(people[: max(1, round(share * len(people)))])
    found: dict[Split, list[Record]] = {"train": [], "test": []}
    for record in records:
        found["test" if _person(record) in out else "train"].append(record)
    return found


def _person(record: Record) -> str:
    return record.id if record.person is None else f"person {record.person}"


def _draw(record: Record) -> bytes:
    return _hash(record.id)


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="replace")).digest()


def _require_text(listed: Sequence[tuple[Split, Record]]) -> None:
    for _, record in listed:
        if any(0xD800 <= ord(letter) <= 0xDFFF for letter in record.uri):
            raise DataError(f"file name {ascii(record.uri)} is not UTF-8; rename the file")
