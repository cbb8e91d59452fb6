"""Where images come from: the records of a folder, a glob, a list file or the face generator, before any is opened.

Law: records and ids depend on names and contents alone, never on the order in which a file system lists them.
"""

import collections
import os
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass

import fsspec
import numpy as np
from numpy.typing import NDArray

from uldscale import files
from uldscale.errors import DataError

SUFFIXES = frozenset(
    [".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".jp2", ".avif"]
    + [".ppm", ".pgm", ".pbm", ".pnm"]
    + [".heic", ".heif", ".jxl"]
)
"""Of images. Pillow cannot read the last three: they are quarantined, so that somebody hears of them."""
TEST_SEED = 1_000_000  # first seed of the generator's test faces; so many training faces can be had
Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Record:
    """An image as its source describes it. Pixels are those of the upright image; (0, 0) is its upper left corner.

    landmarks (L, 2) float32 px, NaN where a point is missing; visible (L,) bool; yaw degrees; box (x0, y0, x1, y1) px;
    extent (width, height) as the source states it; broken says why the record cannot be used, "" when it can.
    """

    id: str
    uri: str
    landmarks: NDArray[np.float32] | None = None
    visible: NDArray[np.bool_] | None = None
    yaw: float | None = None
    box: Box | None = None
    extent: tuple[int, int] | None = None
    broken: str = ""


def from_folder(root: str) -> list[Record]:
    """All images below a folder, by file name extension. Raises DataError when it is missing or has none."""
    filesystem, place = _filesystem(root)
    if not filesystem.exists(place):
        raise DataError(f"image folder {root!r} is not there; give a folder that holds images")
    if not filesystem.isdir(place):
        raise DataError(f"{root!r} is a file, but data.kind 'folder' wants a folder (a list of paths is kind 'list')")
    base = place.rstrip("/")
    below = _walk(base) if files.is_local(root) else [str(name)[len(base) + 1 :] for name in filesystem.find(place)]
    return _records(_uri(root, base), _images(below, f"image folder {root!r}"))


def from_glob(pattern: str) -> list[Record]:
    """All images that match a pattern such as faces/**/left-*.png; ids are relative to its fixed part."""
    filesystem, place = _filesystem(pattern)
    base = re.split(r"[*?\[]", place)[0].rpartition("/")[0]
    found = [str(name)[len(base) + 1 :] for name in filesystem.glob(place)]
    return _records(_uri(pattern, base), _images(found, f"pattern {pattern!r}"))


def from_list(path: str, images: str | None) -> list[Record]:
    """The images named in a text file, one path a line, relative to `images` or else to the file's own folder."""
    lines = [(i, line.strip()) for i, line in enumerate(read_text(path).splitlines(), 1)]
    first: dict[str, int] = {}
    for number, name in lines:
        if not name or name.startswith("#"):
            continue
        name = name if "://" in name else posixpath.normpath(name)
        if name in first:
            raise DataError(f"{path} line {number}: {name!r} is on line {first[name]} already; remove one")
        first[name] = number
    if not first:
        raise DataError(f"{path} names no image; wanted one path a line")
    return _records(images or os.path.dirname(path) or ".", list(first))


def from_faces3d(count: int, first_seed: int, size: int, max_yaw: float) -> list[Record]:
    """Generated faces with seeds first_seed .. first_seed + count - 1, not rendered yet."""
    seeds = range(first_seed, first_seed + count)
    return [Record(f"face-{seed:07d}", f"faces3d:{size}/{max_yaw:g}/{seed}") for seed in seeds]


def read_content(path: str) -> bytes:
    """Content of a file. Raises DataError when it is missing, a folder or cannot be read."""
    try:
        return files.read_bytes(path)
    except FileNotFoundError:
        raise DataError(f"{path} is not there") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None


def read_text(path: str) -> str:
    """Content of a UTF-8 text file. Raises DataError when it cannot be read or is not text."""
    try:
        return read_content(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start})") from None


def locate(root: str, name: str) -> str:
    """Place of a file named in a list: `name` itself when it is absolute, else below `root`."""
    if "://" in name or name.startswith("/"):
        return name
    return files.join(os.path.abspath(root) if "://" not in root else root, name)


def ids_of(names: Sequence[str]) -> list[str]:
    """Unique ids of unique file names: the name without its extension, or whole where two would share an id."""
    stems = [posixpath.splitext(name)[0] for name in names]
    count = collections.Counter(stems)
    ids = [stem if count[stem] == 1 else name for stem, name in zip(stems, names, strict=True)]
    return ids if len(set(ids)) == len(ids) else list(names)


def _records(root: str, names: Sequence[str]) -> list[Record]:
    names = sorted(names)
    return [Record(id, locate(root, name)) for id, name in zip(ids_of(names), names, strict=True)]


def _filesystem(path: str) -> tuple[fsspec.AbstractFileSystem, str]:
    try:
        filesystem, place = fsspec.core.url_to_fs(path)
    except (ImportError, ValueError) as error:
        raise DataError(f"{path!r} cannot be opened: {error}") from None
    return filesystem, str(place)


def _uri(given: str, place: str) -> str:
    return place if files.is_local(given) else str(_filesystem(given)[0].unstrip_protocol(place))


def _walk(root: str) -> list[str]:
    """Paths of all files below a local folder, relative to it; follows links, but enters no folder twice."""
    found: list[str] = []
    seen = {os.path.realpath(root)}
    for folder, below, names in os.walk(root, followlinks=True):
        below[:] = sorted(name for name in below if os.path.realpath(os.path.join(folder, name)) not in seen)
        seen.update(os.path.realpath(os.path.join(folder, name)) for name in below)
        found += [os.path.relpath(os.path.join(folder, name), root).replace(os.sep, "/") for name in names]
    return found


def _images(names: Sequence[str], source: str) -> list[str]:
    shown = [name for name in names if not any(part.startswith(".") for part in name.split("/"))]
    images = [name for name in shown if posixpath.splitext(name)[1].lower() in SUFFIXES]
    if not images:
        other = sorted({posixpath.splitext(name)[1] or "no extension" for name in shown})
        there = f"{len(shown)} files ({', '.join(other[:5])})" if shown else "no file"
        raise DataError(f"{source} holds no image: got {there}, wanted files such as .jpg or .png")
    return images
