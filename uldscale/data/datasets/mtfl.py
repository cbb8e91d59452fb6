"""MTFL as published: 10,000 training faces of LFW and the web, and 2,995 AFLW faces on which much of the literature is measured.

    training.txt, testing.txt    image, x of five points, their y, gender, smile, glasses, pose
    lfw_5590/ net_7876/ AFLW/    the images

Points are eyes, nose and mouth corners in pixels counted from 1; the pose is one of five classes.

Source: Z. Zhang et al., "Facial Landmark Detection by Deep Multi-task Learning", ECCV 2014 (mmlab.ie.cuhk.edu.hk/projects/TCDCN).
"""

import re
from zlib import crc32

import numpy as np

from uldscale.data.datasets.lists import Splits, find, read_lines
from uldscale.data.datasets.points import around, landmarks, numbers
from uldscale.data.roi import square
from uldscale.data.sources import Box, Record, ids_of, locate
from uldscale.errors import DataError

YAWS = {1: -60.0, 2: -30.0, 3: 0.0, 4: 30.0, 5: 60.0}
"""Degrees that stand for the classes left profile, left, frontal, right, right profile; MTFL has no angles."""
CROP = 150.0
"""Side in pixels of the test images, which are crops around a face."""
CONTEXT = 1.55
"""Side of such a crop over that of the face; data.roi.margin 0.275 gives all of it."""
FACE = 1.85
"""Side of a training face over the longer side of its points; that of the test faces at the median."""
DRIFT, SWELL = 0.08, 0.08
"""Standard deviations of where a training box lies, as a share of its side, and of the logarithm of its side. Test crops were not cut
out around their points, and a regressor that sees nothing but centred faces learns that none moves (NME 16.0 instead of 7.7)."""
_POINTS = 5


def read_mtfl(root: str) -> Splits:
    """Records of both splits, with points, a box and a yaw that stands for the pose class.

    Files of LFW carry the name of the person. A training image shows more than the face: its box is a square around the points, moved as
    those of a face detector are, by its name. The box of a test image is the middle of it, wherever its points are. Raises DataError when a
    list is missing or malformed.
    """
    return {"train": _read_split(root, "training.txt"), "test": _read_split(root, "testing.txt")}


def _read_split(root: str, name: str) -> list[Record]:
    path = find(root, name)
    lines = read_lines(path)
    names = [words[0].replace("\\", "/") for _, words in lines]
    if len(set(names)) < len(names):
        raise DataError(f"{path} names an image twice; get the file anew")
    return [
        _record(id, locate(root, image, path), words[1:], f"{path} line {number}", cropped=name == "testing.txt")
        for id, image, (number, words) in zip(ids_of(names), names, lines, strict=True)
    ]


def _record(id: str, uri: str, words: list[str], place: str, *, cropped: bool) -> Record:
    try:
        if len(words) != 2 * _POINTS + 4 or words[-1] not in map(str, YAWS):
            raise DataError(f"{place}: got {len(words)} words after the image, wanted 14, the last a pose of 1 to 5")
        values = numbers(words[: 2 * _POINTS], place)
        points = landmarks(np.reshape(values, (2, _POINTS)).T - 1, place)
    except DataError as problem:
        return Record(id, uri, broken=str(problem))
    box = square((0.0, 0.0, CROP, CROP), (1 / CONTEXT - 1) / 2) if cropped else _moved(around(points), id)
    lfw = re.fullmatch(r"lfw_5590/(.+)_\d+", id)
    return Record(id, uri, points, yaw=YAWS[int(words[-1])], box=box, person=lfw[1] if lfw else None)


def _moved(box: Box, id: str) -> Box:
    """The box of a training face, from that of its points."""
    x, y, size = np.random.default_rng(crc32(id.encode())).standard_normal(3)
    x0, y0, x1, y1 = square(box, (FACE - 1) / 2)
    dx, dy = DRIFT * (x1 - x0) * x, DRIFT * (y1 - y0) * y
    return square((x0 + dx, y0 + dy, x1 + dx, y1 + dy), (float(np.exp(SWELL * size)) - 1) / 2)
