"""LS3D: training on 300W-LP (61,225 faces turned in steps of yaw), test on LS3D-W balanced (7,200), 68 projected 3D points.

    300W_LP/<set>/<name>.jpg and .mat                set: AFW, HELEN, IBUG, LFPW; Pose_Para (pitch, yaw, roll, ...) in radians
    300W_LP/landmarks/<set>/<name>_pts.mat           pts_3d (68, 2)
    LS3D-W-balanced-20-03-2017/.../<name>.jpg, .t7   one Torch7 tensor (68, 2)

Sources: X. Zhu et al., "Face Alignment Across Large Poses", CVPR 2016; A. Bulat and G. Tzimiropoulos, "How far are we from solving the 2D
and 3D face alignment problem?", ICCV 2017.
"""

import posixpath
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from uldscale import files
from uldscale.data.datasets.lists import Splits, find
from uldscale.data.datasets.matlab import read_array
from uldscale.data.datasets.points import Landmarks, annotate, landmarks
from uldscale.data.datasets.torch7 import parse_matrix
from uldscale.data.sources import Record, from_folder, locate, read_content
from uldscale.errors import DataError

NUM_POINTS = 68
SETS = ("AFW", "HELEN", "IBUG", "LFPW")
_TRAIN = ("300W_LP", "300W-LP")
_TEST = ("LS3D-W-balanced-20-03-2017", "LS3D-W-balanced", "LS3D-W")


def read_ls3d(root: str) -> Splits:
    """Records of both splits, with the box around the 68 points; those of 300W-LP have yaw, > 0 with the nose toward image right.

    The mirrored copies in <set>_Flip are left out: they have no annotations, and mirrored ones would exchange left and right.
    Raises DataError when a folder is missing or has no images.
    """
    train, test = find(root, *_TRAIN), find(root, *_TEST)
    with ThreadPoolExecutor() as pool:
        faces = [(train, part, name) for part in SETS for name in _images(find(train, part))]
        turned = list(pool.map(lambda face: _turned(*face), faces))
        balanced = list(pool.map(_balanced, from_folder(test)))
    return {"train": turned, "test": balanced}


def _images(folder: str) -> list[str]:
    found = [name for name in files.names(folder) if name.lower().endswith(".jpg") and not name.startswith(".")]
    if not found:
        raise DataError(f"{folder} has no .jpg; unpack 300W-LP anew")
    return found


def _turned(root: str, part: str, name: str) -> Record:
    """A face of 300W-LP."""
    stem = posixpath.splitext(name)[0]
    record = Record(f"{part}/{stem}", locate(root, f"{part}/{name}", root))
    record = annotate(record, _read_mat, files.join(root, "landmarks", part, f"{stem}_pts.mat"))
    pose = files.join(root, part, f"{stem}.mat")
    try:
        return replace(record, yaw=_read_yaw(pose)) if files.exists(pose) else record
    except DataError as problem:
        return replace(record, broken=record.broken or str(problem))


def _balanced(record: Record) -> Record:
    """A face of LS3D-W."""
    named = replace(record, id=f"LS3D-W/{record.id}")
    return annotate(named, _read_t7, f"{posixpath.splitext(record.uri)[0]}.t7")


def _read_yaw(path: str) -> float:
    # 300W-LP turns the face by a matrix that moves the nose to -sin(yaw): a positive yaw looks toward image left.
    yaw = -float(np.degrees(read_array(path, "Pose_Para", (1, 7))[0, 1]))
    if not abs(yaw) <= 180:
        raise DataError(f"{path}: Pose_Para has the yaw {-yaw:g} degrees; wanted radians")
    return yaw


def _read_mat(path: str) -> Landmarks:
    return landmarks(read_array(path, "pts_3d", (NUM_POINTS, 2)), path)


def _read_t7(path: str) -> Landmarks:
    points = parse_matrix(read_content(path), path)
    if points.shape != (NUM_POINTS, 2):
        raise DataError(f"{path} holds {points.shape[0]} x {points.shape[1]} numbers; wanted {NUM_POINTS} x 2")
    return landmarks(points, path)
