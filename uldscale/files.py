"""Small files, on a local disk or in a bucket, through fsspec.

Law: a reader never sees half a file. Local files are written beside their place and renamed; object stores are atomic by nature.
"""

import errno
import json
import math
import os
import secrets
from collections.abc import Collection
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem


def join(root: str, *parts: str) -> str:
    """Path below `root`, which is a local path or a URI such as s3://bucket/folder."""
    return "/".join([str(root).rstrip("/"), *parts])


def is_local(path: str) -> bool:
    """Whether the path is on a local (or mounted) file system."""
    return isinstance(_locate(path)[0], LocalFileSystem)


def exists(path: str) -> bool:
    """Whether a file or folder is there."""
    filesystem, place = _locate(path)
    return bool(filesystem.exists(place))


def names(folder: str) -> list[str]:
    """Names in a folder, sorted; empty when the folder is not there."""
    filesystem, place = _locate(folder)
    filesystem.invalidate_cache(place)
    if not filesystem.exists(place):
        return []
    return sorted(os.path.basename(str(entry).rstrip("/")) for entry in filesystem.ls(place, detail=False))


def read_bytes(path: str, most: int | None = None) -> bytes:
    """Whole content of a file, or its first `most` bytes. Raises FileNotFoundError, other OSErrors where it cannot be read.

    With `most` only of a regular file: a pipe would keep the reader waiting.
    """
    filesystem, place = _locate(path)
    local = isinstance(filesystem, LocalFileSystem)
    if most is not None and local and os.path.exists(place) and not os.path.isfile(place):
        raise OSError(errno.EINVAL, "it is no regular file")
    return bytes(filesystem.cat_file(place, end=most))


def write_bytes(path: str, content: bytes) -> None:
    """Replace a file whole: written, synced and renamed, so that a crash leaves the old file or the new one."""
    filesystem, place = _locate(path)
    if not isinstance(filesystem, LocalFileSystem):
        filesystem.pipe_file(place, content)
        return
    os.makedirs(os.path.dirname(place) or ".", exist_ok=True)
    # Not behind the name itself, which may be as long as the file system allows.
    draft = os.path.join(os.path.dirname(place), f".{secrets.token_hex(8)}.draft")
    try:
        with open(draft, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, place)
    finally:
        if os.path.exists(draft):
            os.remove(draft)


def read_json(path: str) -> Any:
    """Parsed content of a JSON file."""
    return json.loads(read_bytes(path))


def write_json(path: str, value: Any) -> None:
    """Replace a JSON file whole; keys keep their order, so equal values give equal bytes."""
    write_bytes(path, (json.dumps(value, indent=2) + "\n").encode())


def plain(value: Any) -> Any:
    """JSON values of what numpy and torch hand over; a number that is not finite becomes null."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def copy_folder(source: str, target: str, *, last: str, without: Collection[str] = ()) -> None:
    """Copy the files of a folder but those `without`; `last` comes last, so that a folder with it is whole."""
    wanted = [name for name in names(source) if name not in without]
    for name in sorted(wanted, key=lambda name: name == last):
        write_bytes(join(target, name), read_bytes(join(source, name)))


def remove(path: str) -> None:
    """Remove a file, or a folder with all that is in it; nothing happens when it is not there."""
    filesystem, place = _locate(path)
    if filesystem.exists(place):
        filesystem.rm(place, recursive=True)


def _locate(path: str) -> tuple[fsspec.AbstractFileSystem, str]:
    # fsspec takes :: in a name for a chain of file systems.
    if "://" not in str(path):
        return LocalFileSystem(), os.path.abspath(os.path.expanduser(str(path)))
    filesystem, place = fsspec.core.url_to_fs(str(path))
    return filesystem, str(place)


def in_units(count: float) -> str:
    """Bytes in the unit that people would say."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.2f} TB"
