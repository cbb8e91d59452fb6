"""Where images come from: the records of a folder, a glob, a list file or the face generator, before any is opened.

Law: records and ids depend on names and contents alone, never on the order in which a file system lists them.
"""

import collections
import json
import os
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

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
"""Of images. Pillow cannot read the last three by itself (see `unread`): they are quarantined, so that somebody hears of them."""
TEST_SEED = 1_000_000  # first seed of the generator's test faces; so many training faces can be had
Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Record:
    """An image as its source describes it. Pixels are those of the upright image; (0, 0) is its upper left corner.

    landmarks (L, 2) float32 px, NaN where a point is missing; visible (L,) bool; yaw degrees; box (x0, y0, x1, y1) px;
    extent (width, height) as the source states it; person, where the source tells whose images belong together; broken says why the
    record cannot be used, "" when it can.
    """

    id: str
    uri: str
    landmarks: NDArray[np.float32] | None = None
    visible: NDArray[np.bool_] | None = None
    yaw: float | None = None
    box: Box | None = None
    extent: tuple[int, int] | None = None
    person: str | None = None
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


def from_list(path: str, images: str | None, allow: Sequence[str] = ()) -> list[Record]:
    """The images named in a text file, one path a line, below `images` or else the file's own folder; see `locate`."""
    lines = [(i, line.strip()) for i, line in enumerate(read_text(path).splitlines(), 1)]
    root, first, places = images or os.path.dirname(path) or ".", dict[str, int](), dict[str, str]()
    for number, name in lines:
        if not name or name.startswith("#"):
            continue
        name = name if "://" in name else posixpath.normpath(name)
        if name in first:
            raise DataError(f"{path} line {number}: {name!r} is on line {first[name]} already; remove one")
        first[name], places[name] = number, locate(root, name, f"{path} line {number}", allow)
    if not first:
        raise DataError(f"{path} names no image; wanted one path a line")
    names = sorted(places)
    return [Record(id, places[name]) for id, name in zip(ids_of(names), names, strict=True)]


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


def read_json(path: str) -> Any:
    """Content of a JSON file that a user names. Raises DataError when it cannot be read or is none."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is not JSON: {error.msg} at line {error.lineno} column {error.colno}") from None


def locate(root: str, name: str, source: str, allow: Sequence[str] | None = None) -> str:
    """Place of an image that a file names: below `root`, or elsewhere if its URI begins like one of `allow`.

    `name` is relative to `root`, or whole. Names are judged, not what they lead to: a link below `root` is followed, since nobody can
    make one there but the owner of the folder, and large data sets are often links into a cache. Raises DataError that names
    `source`, where the name stands, for any other place, for .. that leads out of `root`, and for chains of fsspec (::).
    """
    base = root.rstrip("/") if "://" in root else os.path.abspath(os.path.expanduser(root))
    place = _place(base, name)
    below = place.startswith(f"{base.rstrip('/')}/")
    if (below or place.startswith(tuple(allow or ()))) and not _leads_away(place.removeprefix(base), place):
        return place
    more = "" if allow is None else f", or a URI that begins like one of data.allow = {list(allow)}"
    advice = "" if allow is None else "; set data.images to the folder of all images, or data.allow"
    raise DataError(f"{source}: {name!r:.80} is not below {root!r}; wanted a file there{more}{advice}")


def _place(base: str, name: str) -> str:
    if "://" in name or (name.startswith("/") and "://" in base):
        return name
    return (
        files.join(base, posixpath.normpath(name)) if "://" in base else posixpath.normpath(posixpath.join(base, name))
    )


def _leads_away(name: str, place: str) -> bool:
    """Whether a URI means another place than it says; servers decode %2e, and local names are free to have :: and %."""
    return "://" in place and ("::" in name or ".." in unquote(name).split("/"))


def ids_of(names: Sequence[str]) -> list[str]:
    """Unique ids of unique file names: the name without its extension, or whole where two would share an id."""
    stems = [posixpath.splitext(name)[0] for name in names]
    count = collections.Counter(stems)
    ids = [stem if count[stem] == 1 else name for stem, name in zip(stems, names, strict=True)]
    return ids if len(set(ids)) == len(ids) else list(names)


def numbered(id: str, i: int) -> str:
    """The id of object i, from 0, of what has an id: its own, then with "#2", "#3" and so on."""
    return f"{id}#{i + 1}" if i else id


def _records(root: str, names: Sequence[str]) -> list[Record]:
    names = sorted(names)
    return [Record(id, locate(root, name, root)) for id, name in zip(ids_of(names), names, strict=True)]


def _filesystem(path: str) -> tuple[fsspec.AbstractFileSystem, str]:
    try:
        filesystem, place = fsspec.core.url_to_fs(path)
    except (ImportError, ValueError) as error:
        raise DataError(f"{path!r} cannot be opened: {error}") from None
    return filesystem, str(place)


def _uri(given: str, place: str) -> str:
    return place if files.is_local(given) else str(_filesystem(given)[0].unstrip_protocol(place))


def _walk(root: str) -> list[str]:
    """Paths of all files below a local folder, relative to it; follows links, but enters no folder twice, and no hidden one.

    Raises DataError for a folder that cannot be read: what is in it would be missed.
    """
    found: list[str] = []
    seen = {os.path.realpath(root)}
    for folder, below, names in os.walk(root, followlinks=True, onerror=_refuse):
        shown = sorted(name for name in below if not name.startswith("."))
        below[:] = [name for name in shown if os.path.realpath(os.path.join(folder, name)) not in seen]
        seen.update(os.path.realpath(os.path.join(folder, name)) for name in below)
        found += [os.path.relpath(os.path.join(folder, name), root).replace(os.sep, "/") for name in names]
    return found


def _refuse(error: OSError) -> None:
    raise DataError(
        f"{error.filename} cannot be read: {error.strerror}; make it readable, or move it elsewhere"
    ) from error


def _images(names: Sequence[str], source: str) -> list[str]:
    shown = [name for name in names if not any(part.startswith(".") for part in name.split("/"))]
    images = [name for name in shown if posixpath.splitext(name)[1].lower() in SUFFIXES]
    if not images:
        other = sorted({posixpath.splitext(name)[1] or "no extension" for name in shown})
        there = f"{len(shown)} files ({', '.join(other[:5])})" if shown else "no file"
        raise DataError(f"{source} holds no image: got {there}, wanted files such as .jpg or .png")
    return images
