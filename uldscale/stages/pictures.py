"""What `predict` looks at: image files, folders, patterns, URLs and videos become pictures, one after the other.

Ids are those of the index (`data.kind: folder` and `glob`): names without extension, relative to the folder. Frames are named as
`ffmpeg -i clip.mp4 -start_number 0 clip/%06d.png` would write them.
"""

import os
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from uldscale import files, inputs
from uldscale.data import sources, videos
from uldscale.data.images import BrokenImage, Pixels
from uldscale.data.sources import Record
from uldscale.errors import DataError


@dataclass(frozen=True, eq=False)
class Picture:
    """An image or frame; `pixels` (H, W, 3) are None when it cannot be used, and `reason` says why."""

    record: Record
    pixels: Pixels | None = None
    reason: str = ""

    @property
    def name(self) -> str:
        """Of the file, relative to its folder."""
        suffix = posixpath.splitext(self.record.uri.partition("?")[0])[1]
        return self.record.id if self.record.id.endswith(suffix) else self.record.id + suffix


def list_records(given: Sequence[str]) -> list[Record]:
    """Images and videos that a user names. Raises DataError for what is not there, and for two of one id."""
    listed = [record for place in given for record in _listed(place)]
    first: dict[str, Record] = {}
    for record in listed:
        other = first.setdefault(record.id, record)
        if other is not record:
            raise DataError(f"{other.uri} and {record.uri} have one name, {record.id!r}; give them in two calls")
    return listed


def count(records: Sequence[Record]) -> int:
    """Pictures there will be, as far as videos say how many frames they have."""
    return sum(max(1, videos.count(record.uri)) if _is_video(record.uri) else 1 for record in records)


def pictures(records: Sequence[Record]) -> Iterator[Picture]:
    """One after the other; after a frame that is broken the next file goes on."""
    for record in records:
        if _is_video(record.uri):
            yield from _frames(record)
        else:
            yield _picture(record)


def _listed(place: str) -> list[Record]:
    if os.path.isdir(place):
        return sources.from_folder(place)
    if place.startswith(("http://", "https://")) or not inputs.may_be_opened(place):
        # Whatever is wrong with it is said when its turn comes.
        return [_record(urlsplit(place).path, place)]
    if _is_there(place):
        return [_record(place, place)] if _is_file(place) else sources.from_folder(place)
    if any(letter in place for letter in "*?["):
        return sources.from_glob(place)
    raise DataError(f"image {place!r} is not there; give image or video files, folders of images, patterns or URLs")


def _is_there(place: str) -> bool:
    try:
        return files.exists(place)
    except (OSError, ImportError, ValueError) as error:
        raise DataError(f"image {place!r} cannot be looked for: {error}") from None


def _is_file(place: str) -> bool:
    return files.is_local(place) or posixpath.splitext(place)[1].lower() in sources.SUFFIXES


def _record(path: str, uri: str) -> Record:
    return Record(sources.ids_of([posixpath.basename(path) or "image"])[0], uri)


def _is_video(uri: str) -> bool:
    return posixpath.splitext(uri)[1].lower() in videos.SUFFIXES and "://" not in uri


def _picture(record: Record) -> Picture:
    try:
        return Picture(record, inputs.read(record.uri))
    except BrokenImage as problem:
        return Picture(record, reason=problem.reason)


def _frames(record: Record) -> Iterator[Picture]:
    try:
        for number, pixels in enumerate(videos.frames(record.uri)):
            name = f"{record.id}/{number:06d}"
            yield Picture(Record(name, f"{name}.png"), pixels)
    except BrokenImage as problem:
        yield Picture(record, reason=problem.reason)
