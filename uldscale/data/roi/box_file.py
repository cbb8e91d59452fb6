"""Boxes that somebody has made elsewhere, as JSON or CSV."""

import csv
import io
import math
from collections.abc import Mapping
from typing import Any

from uldscale.data.sources import Box, read_json, read_text
from uldscale.errors import DataError

Entries = dict[str, list[Any]]


def read_boxes(path: str, *, several: bool = False) -> dict[str, list[Box]]:
    """Boxes by image id of a file: JSON {"id": [x0, y0, x1, y1]}, a list of such lists, or [] or null where there is no object; or CSV with
    rows id,x0,y0,x1,y1.

    Raises DataError that names the entry, also of one with several boxes unless they are wanted.
    """
    entries = _csv_entries(path) if path.lower().endswith(".csv") else _json_entries(path)
    if not several:
        _require_one(path, entries)
    return {id: [_parse(path, id, values) for values in boxes] for id, boxes in entries.items()}


def _json_entries(path: str) -> Entries:
    entries = read_json(path)
    if not isinstance(entries, dict):
        raise DataError(f'{path} holds a {type(entries).__name__}; wanted {{"id": [x0, y0, x1, y1], ...}}')
    return {id: _listed(values) for id, values in entries.items()}


def _listed(values: Any) -> list[Any]:
    """One box or several become a list of boxes."""
    if values is None:
        return []
    return values if isinstance(values, list) and all(isinstance(value, list) for value in values) else [values]


def _csv_entries(path: str) -> Entries:
    rows = [row for row in csv.reader(io.StringIO(read_text(path))) if row]
    entries: Entries = {}
    for row in rows[1:] if rows and rows[0][0] == "id" else rows:
        entries.setdefault(row[0], []).append(row[1:])
    return entries


def _require_one(path: str, entries: Mapping[str, list[Any]]) -> None:
    for id, boxes in entries.items():
        if len(boxes) > 1:
            raise DataError(
                f"{path} has several boxes for one id, {id!r}; wanted one an image, or roi.objects: all for a row each"
            )


def _parse(path: str, id: str, values: Any) -> Box:
    try:
        x0, y0, x1, y1 = (float(value) for value in values)
    except (TypeError, ValueError):
        raise DataError(f"{path}: box of {id!r} is {values!r:.60}; wanted four numbers x0, y0, x1, y1") from None
    if not (all(map(math.isfinite, (x0, y0, x1, y1))) and x0 < x1 and y0 < y1):
        raise DataError(f"{path}: box of {id!r} is {values!r:.60}; wanted x0 < x1 and y0 < y1")
    return x0, y0, x1, y1
