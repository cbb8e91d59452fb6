"""COCO keypoints: one record per annotation, or a DataError that names the place in the file.

Laws: a point is in a record only where the file says so. Visibility 0 is NaN; 1 (hidden) and 2 (seen) keep the point. An annotation without
keypoints is an object that nobody has annotated. Objects are of one category, unless the job names several.
"""

import collections
import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from uldscale import files
from uldscale.data.sources import Box, Record, ids_of, locate, numbered, read_json
from uldscale.errors import DataError

_LARGEST = 1e7  # no image is as wide; what is beyond float32 would become infinite


def read_coco(
    path: str, images: str | None, allow: Sequence[str] = (), *, categories: Sequence[str] = (), first_pixel: int = 0
) -> list[Record]:
    """Records of a COCO JSON file, keypoints of one length throughout; file names are relative to `images`, see `sources.locate`.

    Without `images` they are relative to the JSON's folder or, when none is there, to the folder "images" in it. The
    second annotation of an image has the id of the first with "#2", and so on; an image without annotation is a record
    without landmarks, or broken where `categories` names those that count. `first_pixel` is what the file calls the first
    pixel, which is 0 here. When several image entries name one file, all but the last are marked broken: in a data set
    where crops overwrote each other, the last is the one that the file holds.
    """
    content = _read(path)
    entries = {_key(path, f"images[{i}]", entry, "id"): (i, entry) for i, entry in enumerate(content["images"])}
    if len(entries) < len(content["images"]):
        raise DataError(f"{path}: {len(content['images'])} images share {len(entries)} ids; each needs its own")
    names = {id: _name(path, f"images[{i}]", entry) for id, (i, entry) in entries.items()}
    annotations = _by_image(path, content, set(entries), _chosen(path, content, categories), first_pixel)
    none = {"broken": f"it has no annotation of {' or '.join(categories)}"} if categories else {}
    last = {name: id for id, name in names.items()}
    unique = sorted(last)
    places = {names[id]: f"{path}: images[{i}].file_name" for id, (i, _) in entries.items()}
    root = images or _root(path, places)
    uris = {name: locate(root, name, place, allow) for name, place in places.items()}
    ids, made = dict(zip(unique, ids_of(unique), strict=True)), collections.Counter[str]()
    records = []
    for id, (i, entry) in entries.items():
        name = names[id]
        for fields in annotations.get(id) or [dict(none)]:
            made[name] += 1
            broken = fields.pop("broken", "") if last[name] == id else "a later image entry names the same file"
            own = numbered(ids[name], made[name] - 1)
            whole = {"person": ids[name]} | _entry_fields(path, f"images[{i}]", entry)
            records.append(Record(own, uris[name], **{**whole, **fields, "broken": broken}))
    return records


def _read(path: str) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path} holds a {type(content).__name__}; wanted an object with the keys images, annotations")
    for name in ("images", "annotations"):
        if not isinstance(content.get(name), list):
            raise DataError(f"{path}: key {name!r} is {_kind(content, name)}; wanted a list, as in COCO keypoints")
        for i, entry in enumerate(content[name]):
            if not isinstance(entry, dict):
                raise DataError(f"{path}: {name}[{i}] is {entry!r:.60}; wanted an object")
    if not content["images"]:
        raise DataError(f"{path} lists no image")
    return content


def said(categories: Sequence[str], first_pixel: int) -> str:
    """How the files are read."""
    chosen = f"category {', '.join(categories)}" if categories else "the only category"
    return f"COCO: {chosen}, the first pixel is ({first_pixel}, {first_pixel}) in the file and (0, 0) here, visibility 0 is a missing point"


def _chosen(path: str, content: dict[str, Any], names: Sequence[str]) -> set[Any] | None:
    """Ids of the categories that count; None for all, where there is but one. Raises DataError when the choice is open or not there."""
    known = {
        _key(path, f"categories[{i}]", entry, "id"): str(entry.get("name", ""))
        for i, entry in _categories(path, content)
    }
    used = collections.Counter(
        a["category_id"] for a in content["annotations"] if isinstance(a.get("category_id"), int | str)
    )
    counts = ", ".join(f"{known.get(id) or id} ({used[id]})" for id in sorted(used, key=str))
    if not names:
        if len(used) > 1:
            raise DataError(f"{path} has annotations of several categories: {counts}; choose with data.category")
        return None
    if unknown := [name for name in names if name not in known.values()]:
        raise DataError(f"{path} has no category {unknown[0]!r}; it has {counts or 'none'}")
    return {id for id, name in known.items() if name in names}


def _by_image(
    path: str, content: dict[str, Any], known: set[Any], chosen: set[Any] | None, first_pixel: int
) -> dict[Any, list[dict[str, Any]]]:
    """Record fields of all annotations of the chosen categories by image id, in the file's order."""
    wanted = _num_points(path, content)
    found: dict[Any, list[dict[str, Any]]] = {}
    for i, annotation in enumerate(content["annotations"]):
        place = f"annotations[{i}]"
        image = _key(path, place, annotation, "image_id")
        if image not in known:
            raise DataError(f"{path}: {place}.image_id is {image!r}, which no entry of images has")
        category = _key(path, place, annotation, "category_id") if "category_id" in annotation else None
        if chosen is None or category in chosen:
            count = wanted.get(category, wanted[None])
            found.setdefault(image, []).append(_fields(path, place, annotation, count, first_pixel))
    return found


def _fields(path: str, place: str, annotation: dict[str, Any], count: int, first_pixel: int) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if annotation.get("bbox"):
        fields["box"] = _box(path, place, annotation, first_pixel)
    if annotation.get("keypoints") or annotation.get("keypoints", []) not in ([], None):
        fields.update(_points(path, f"{place}.keypoints", annotation["keypoints"], count, first_pixel))
    if annotation.get("iscrowd"):
        fields["broken"] = "its annotation is a crowd, not one object"
    return fields


def _categories(path: str, content: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    categories = content.get("categories") or []
    if not isinstance(categories, list) or not all(isinstance(category, dict) for category in categories):
        raise DataError(f"{path}: categories is {categories!r:.60}; wanted a list of objects")
    return list(enumerate(categories))


def _num_points(path: str, content: dict[str, Any]) -> dict[Any, int]:
    """Number of points by category id; under None that of the first annotation which has any."""
    given = (a.get("keypoints") for a in content["annotations"])
    lengths = [len(points) for points in given if isinstance(points, list) and points]
    counts: dict[Any, int] = {None: lengths[0] // 3 if lengths else 0}
    for i, category in _categories(path, content):
        names = category.get("keypoints")
        if names:
            if not isinstance(names, list):
                raise DataError(f"{path}: categories[{i}].keypoints is {names!r:.60}; wanted a list of names")
            counts[_key(path, f"categories[{i}]", category, "id")] = len(names)
    return counts


def _points(path: str, place: str, values: Any, count: int, first_pixel: int) -> dict[str, Any]:
    got = len(values) if isinstance(values, list) else 0
    if got != 3 * count or not count:
        raise DataError(f"{path}: {place} has {got} numbers, wanted 3 x {count} = {3 * count} (x, y, visibility)")
    for j, value in enumerate(values):
        if not _is_number(value):
            raise DataError(f"{path}: {place}[{j}] is {value!r:.60}; wanted a number")
        if j % 3 == 2 and value not in (0, 1, 2):
            raise DataError(f"{path}: {place}[{j}] is {value!r}; wanted visibility 0 (absent), 1 (hidden) or 2 (seen)")
    table = np.array(values, np.float64).reshape(count, 3)
    points = np.where(table[:, 2:] > 0, table[:, :2] - first_pixel, np.nan).astype(np.float32)
    return {"landmarks": points, "visible": table[:, 2] == 2}


def _box(path: str, place: str, annotation: dict[str, Any], first_pixel: int) -> Box:
    values = annotation["bbox"]
    if not isinstance(values, list) or len(values) != 4 or not all(map(_is_number, values)):
        raise DataError(f"{path}: {place}.bbox is {values!r:.60}; wanted [x, y, width, height] in pixels")
    x, y, width, height = map(float, values)
    x, y = x - first_pixel, y - first_pixel
    return x, y, x + width, y + height


def _entry_fields(path: str, place: str, entry: dict[str, Any]) -> dict[str, Any]:
    """Yaw, extent and person ("subject") of an entry of images, where it has them."""
    given = {name: entry[name] for name in ("yaw", "width", "height") if entry.get(name) is not None}
    for name, value in given.items():
        if not _is_number(value):
            raise DataError(f"{path}: {place}.{name} is {value!r:.60}; wanted a number")
    extent = (int(given["width"]), int(given["height"])) if {"width", "height"} <= given.keys() else None
    found = {"yaw": float(given["yaw"]) if "yaw" in given else None, "extent": extent}
    subject = entry.get("subject")
    if not isinstance(subject, int | str | None):
        raise DataError(f"{path}: {place}.subject is {subject!r:.60}; wanted a number or a string, whose image it is")
    return found if subject is None else {**found, "person": str(subject)}


def _name(path: str, place: str, entry: dict[str, Any]) -> str:
    name = _key(path, place, entry, "file_name")
    if not isinstance(name, str) or not name.strip():
        raise DataError(f"{path}: {place}.file_name is {name!r:.60}; wanted the name of an image file")
    return name if "://" in name else posixpath.normpath(name)


def _key(path: str, place: str, entry: dict[str, Any], name: str) -> Any:
    if name not in entry:
        raise DataError(f"{path}: {place} has no key {name!r}; it has {', '.join(sorted(entry)) or 'none'}")
    if name in ("id", "image_id", "category_id") and not isinstance(entry[name], int | str):
        raise DataError(f"{path}: {place}.{name} is {entry[name]!r:.60}; wanted a number or a string")
    return entry[name]


def _root(path: str, places: Mapping[str, str]) -> str:
    folder = posixpath.dirname(path) or "."
    local = [name for name in sorted(places)[:20] if "://" not in name]
    beside = any(files.exists(locate(folder, name, places[name])) for name in local)
    return folder if beside or not files.exists(files.join(folder, "images")) else files.join(folder, "images")


def _kind(content: dict[str, Any], name: str) -> str:
    return f"a {type(content[name]).__name__}" if name in content else "missing"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST
