"""Points in <name>.pts beside each image: 300-W, whose 3,148 training and 689 test faces are split by folder, or a folder of one's own.

    afw, helen/trainset, lfpw/trainset     training: 337 + 2,000 + 811
    helen/testset, lfpw/testset, ibug      test: 330 + 224 + 135

Source: C. Sagonas et al., "300 Faces in-the-Wild challenge", ICCVW 2013; ibug.doc.ic.ac.uk/resources/300-W. Folders count in upper and in
lower case and at any depth; all other folders are left out, such as the indoor and outdoor faces of the challenge itself. Where none of the
six is there, all images of a folder are one split.
"""

import posixpath
import re
from typing import Literal

from uldscale import files
from uldscale.data.datasets.lists import Splits
from uldscale.data.datasets.points import Landmarks, annotate, landmarks, numbers
from uldscale.data.sources import Record, from_folder, read_text
from uldscale.errors import DataError

NUM_POINTS = 68
FOLDERS: dict[str, Literal["train", "test"]] = {
    "afw": "train",
    "helen/trainset": "train",
    "lfpw/trainset": "train",
    "helen/testset": "test",
    "lfpw/testset": "test",
    "ibug": "test",
}
_COMMENT = re.compile(r"(#|//).*")
_COUNT = re.compile(r"^\s*n_points\s*:\s*(\d+)\s*$", re.IGNORECASE | re.MULTILINE)


def read_pts(root: str, test: str | None = None, first_pixel: int = 1) -> Splits:
    """Records of both splits, with the box around the points; `first_pixel` is what the files call the first pixel, which is 0 here.

    With `test` both folders are whole splits. Raises DataError when one of the six folders of 300-W has no image, but others have.
    """
    records = from_folder(root)
    if test is not None:
        return {"train": _annotated(records, first_pixel), "test": _annotated(from_folder(test), first_pixel)}
    found: dict[str, list[Record]] = {name: [] for name in FOLDERS}
    for record in records:
        if (folder := _folder(record.uri)) is not None:
            found[folder].append(record)
    if not any(found.values()):
        return {"train": _annotated(records, first_pixel)}
    if lacking := [name for name, records in found.items() if not records]:
        raise DataError(
            f"{root} has no images in {', '.join(lacking)}; unpack afw, helen, lfpw and ibug there, or give data.test for your own split"
        )
    splits: Splits = {"train": [], "test": []}
    for name, split in FOLDERS.items():
        splits[split] += _annotated(found[name], first_pixel, NUM_POINTS)
    return splits


def said(first_pixel: int) -> str:
    """How the files are read."""
    return (
        f".pts: the first pixel is ({first_pixel}, {first_pixel}) in the files and (0, 0) here, box around the points"
    )


def _annotated(records: list[Record], first_pixel: int, count: int | None = None) -> list[Record]:
    return [
        annotate(record, lambda path: read_points(path, count) - first_pixel, _beside(record)) for record in records
    ]


def _beside(record: Record) -> str:
    stem = posixpath.splitext(record.uri)[0]
    # Asked for only where it is needed: a bucket answers slowly.
    return f"{stem}.pts" if files.exists(f"{stem}.pts") or not files.exists(f"{stem}.PTS") else f"{stem}.PTS"


def _folder(uri: str) -> str | None:
    above = f"{posixpath.dirname(uri).lower()}/"
    # The last match counts: the data set may itself lie in a folder of such a name.
    places = {above.rfind(f"/{name}/"): name for name in FOLDERS}
    last = max(places)
    return places[last] if last >= 0 else None


def read_points(path: str, count: int | None = None) -> Landmarks:
    """(L, 2) as in a .pts file, whose version and comments (# or //) do not matter. Raises DataError unless it has as many points as it
    says, or as `count` says.
    """
    text = _COMMENT.sub("", read_text(path))
    heading, opened, rest = text.partition("{")
    body, closed, after = rest.partition("}")
    stated = _COUNT.search(heading)
    wanted = count if count is not None else int(stated[1]) if stated else None
    if not (opened and closed) or after.strip() or (stated and int(stated[1]) != wanted) or (count and not stated):
        some = "n_points" if count is None else f"n_points: {count}"
        raise DataError(f"{path} is not in pts format with {some}, and points between {{ and }}")
    rows = [line.split() for line in body.splitlines() if line.strip()]
    if len(rows) != (len(rows) if wanted is None else wanted) or not rows or any(len(row) != 2 for row in rows):
        wish = wanted or "at least one"
        raise DataError(f"{path} has {len(rows)} lines of points; wanted {wish} lines of x and y")
    return landmarks([numbers(row, path) for row in rows], path)
