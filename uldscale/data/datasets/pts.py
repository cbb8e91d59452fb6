"""300-W: 3,148 training and 689 test faces with 68 points, in <name>.pts beside each image, split by folder.

    afw, helen/trainset, lfpw/trainset     training: 337 + 2,000 + 811
    helen/testset, lfpw/testset, ibug      test: 330 + 224 + 135

Source: C. Sagonas et al., "300 Faces in-the-Wild challenge", ICCVW 2013; ibug.doc.ic.ac.uk/resources/300-W. Folders count in upper and in
lower case and at any depth; all other folders are left out, such as the indoor and outdoor faces of the challenge itself.
"""

import posixpath
from typing import Literal

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


def read_pts(root: str) -> Splits:
    """Records of both splits, with the box around the 68 points; coordinates as in the files, whose first pixel is 1.

    Raises DataError when one of the six folders has no image.
    """
    found: dict[str, list[Record]] = {name: [] for name in FOLDERS}
    for record in from_folder(root):
        if (folder := _folder(record.uri)) is not None:
            found[folder].append(annotate(record, _read_points, f"{posixpath.splitext(record.uri)[0]}.pts"))
    if lacking := [name for name, records in found.items() if not records]:
        raise DataError(f"{root} has no images in {', '.join(lacking)}; unpack afw, helen, lfpw and ibug there")
    splits: Splits = {"train": [], "test": []}
    for name, split in FOLDERS.items():
        splits[split] += found[name]
    return splits


def _folder(uri: str) -> str | None:
    above = f"{posixpath.dirname(uri).lower()}/"
    # The last match counts: the data set may itself lie in a folder of such a name.
    places = {above.rfind(f"/{name}/"): name for name in FOLDERS}
    last = max(places)
    return places[last] if last >= 0 else None


def _read_points(path: str) -> Landmarks:
    lines = [line.split() for line in read_text(path).splitlines() if line.strip()]
    heading = {words[0]: words[1:] for words in lines[:2]}
    if heading.get("n_points:") != [str(NUM_POINTS)] or lines[2:3] != [["{"]] or lines[-1] != ["}"]:
        raise DataError(f"{path} is not in pts format with n_points: {NUM_POINTS}, and points between {{ and }}")
    rows = lines[3:-1]
    if len(rows) != NUM_POINTS or any(len(row) != 2 for row in rows):
        raise DataError(f"{path} has {len(rows)} lines of points; wanted {NUM_POINTS} lines of x and y")
    return landmarks([numbers(row, path) for row in rows], path)
