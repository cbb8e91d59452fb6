"""LS3D: points of .mat and .t7 files, yaw, and what is left out."""

import struct
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from uldscale.data.datasets.ls3d import SETS, read_ls3d
from uldscale.errors import DataError

POINTS = np.arange(136, dtype=np.float64).reshape(68, 2)


def torch7(points: np.ndarray) -> bytes:
    """Bytes of torch.save(name, torch.FloatTensor(points))."""

    def named(number: int, name: str) -> bytes:
        return struct.pack("<iii3si", 4, number, 3, b"V 1", len(name)) + name.encode()

    rows, columns = points.shape
    tensor = named(1, "torch.FloatTensor") + struct.pack("<iqqqqq", 2, rows, columns, columns, 1, 1)
    return tensor + named(2, "torch.FloatStorage") + struct.pack("<q", points.size) + points.astype("<f4").tobytes()


def made(root: Path) -> str:
    """A face in each set of 300W-LP, a mirrored copy, and two faces of LS3D-W."""
    for name in SETS:
        place, marks = root / "300W_LP" / name, root / "300W_LP" / "landmarks" / name
        place.mkdir(parents=True)
        marks.mkdir(parents=True)
        (place / f"{name}_1_0.jpg").touch()
        scipy.io.savemat(marks / f"{name}_1_0_pts.mat", {"pts_2d": POINTS, "pts_3d": POINTS + 0.5})
    turn(root, -0.76809585)
    flipped = root / "300W_LP" / "AFW_Flip"
    flipped.mkdir()
    (flipped / "AFW_1_0.jpg").touch()
    for name in ("10", "9"):
        place = root / "LS3D-W-balanced-20-03-2017" / "new_dataset"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{name}.jpg").touch()
        (place / f"{name}.t7").write_bytes(torch7(POINTS + 0.25))
    return str(root)


def turn(root: Path, yaw: float) -> None:
    pose = np.array([[-0.13235892, yaw, 0.05598382, 183.6, 189.5, -81.7, 0.0013]], np.float32)
    scipy.io.savemat(root / "300W_LP" / "AFW" / "AFW_1_0.mat", {"Pose_Para": pose, "pt2d": np.zeros((2, 68))})


def test_known_answers(tmp_path: Path) -> None:
    splits = read_ls3d(made(tmp_path))
    assert [record.id for record in splits["train"]] == [f"{name}/{name}_1_0" for name in SETS]
    assert [record.id for record in splits["test"]] == ["LS3D-W/new_dataset/10", "LS3D-W/new_dataset/9"]
    first, face = splits["train"][0], splits["test"][0]
    assert first.uri == f"{tmp_path}/300W_LP/AFW/AFW_1_0.jpg"
    assert first.box == (0.5, 1.5, 134.5, 135.5)
    np.testing.assert_array_equal(first.landmarks, (POINTS + 0.5).astype(np.float32))
    np.testing.assert_array_equal(face.landmarks, (POINTS + 0.25).astype(np.float32))
    assert face.yaw is None


def test_yaw_is_positive_with_the_nose_toward_image_right(tmp_path: Path) -> None:
    # Pose_Para of IBUG_image_008_1_0: outer eye corners at x = 226 and 306, tip of the nose at 299.
    records = read_ls3d(made(tmp_path))["train"]
    assert records[0].yaw == pytest.approx(44.0086, abs=1e-3)
    assert [record.yaw for record in records[1:]] == [None, None, None]


def test_a_bad_annotation_breaks_one_face(tmp_path: Path) -> None:
    root = made(tmp_path)
    marks, balanced = tmp_path / "300W_LP" / "landmarks", tmp_path / "LS3D-W-balanced-20-03-2017" / "new_dataset"
    turn(tmp_path, 44.0)
    (marks / "HELEN" / "HELEN_1_0_pts.mat").unlink()
    scipy.io.savemat(marks / "IBUG" / "IBUG_1_0_pts.mat", {"pts_3d": POINTS[:5]})
    (marks / "LFPW" / "LFPW_1_0_pts.mat").write_bytes(b"MATLAB 7.3 MAT-file")
    (balanced / "9.t7").write_bytes(torch7(POINTS[:, :1]))
    (balanced / "10.t7").write_bytes(b"\x80\x04.")
    splits = read_ls3d(root)
    said = [record.broken for record in (*splits["train"], *splits["test"])]
    assert said[0].endswith("AFW_1_0.mat: Pose_Para has the yaw 2521.01 degrees; wanted radians")
    assert said[1].endswith("HELEN_1_0_pts.mat is not there")
    assert said[2].endswith("IBUG_1_0_pts.mat: variable 'pts_3d' is 5 x 2 numbers; wanted 68 x 2")
    assert "LFPW_1_0_pts.mat is not a MATLAB file of version 5 to 7" in said[3]
    assert "10.t7 is not one matrix of floats saved by Torch7" in said[4]
    assert said[5].endswith("9.t7 holds 68 x 1 numbers; wanted 68 x 2")


def test_missing_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no 300W_LP and no 300W-LP; unpack the data set there"):
        read_ls3d(str(tmp_path))
    root = made(tmp_path)
    (tmp_path / "300W_LP" / "IBUG" / "IBUG_1_0.jpg").unlink()
    with pytest.raises(DataError, match=r"300W_LP/IBUG has no .jpg; unpack 300W-LP anew"):
        read_ls3d(root)
    (tmp_path / "300W_LP" / "IBUG").rename(tmp_path / "IBUG")
    with pytest.raises(DataError, match="300W_LP has no IBUG; unpack"):
        read_ls3d(root)
    (tmp_path / "LS3D-W-balanced-20-03-2017").rename(tmp_path / "balanced")
    with pytest.raises(DataError, match="has no LS3D-W-balanced-20-03-2017 and no"):
        read_ls3d(root)
