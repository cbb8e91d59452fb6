"""AFLW in crops: swapped coordinates, fixed lists, repeated images."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from uldscale.data.datasets.aflw import read_aflw
from uldscale.errors import DataError

GT = np.array([[140, 127], [149, 219], [223, 165], [241, 128], [251, -3]], np.float64)  # (y, x), one point outside


def made(root: Path, **changed: Any) -> str:
    """Two training and three test faces, of which two are one image."""
    lists = {"train": ["0/a_1.jpg", "2/b_2.jpg"], "test": ["3/c_3.jpg", "0/d_4.jpg", "3/c_3.jpg"]}
    for split, names in lists.items():
        (root / f"aflw_{split}_images.txt").write_text("\n".join(names) + "\n")
        gt = np.stack([GT + i for i in range(len(names))])
        hw = np.tile([338.0, 337.0], (len(names), 1))
        scipy.io.savemat(root / f"aflw_{split}_keypoints.mat", {"gt": gt, "hw": hw, **changed})
    return str(root)


def test_points_are_swapped_to_x_and_y(tmp_path: Path) -> None:
    splits = read_aflw(made(tmp_path))
    first = splits["train"][0]
    assert (first.id, first.uri, first.extent) == ("0/a_1", f"{tmp_path}/output/0/a_1.jpg", (337, 338))
    np.testing.assert_array_equal(first.landmarks, [[127, 140], [219, 149], [165, 223], [128, 241], [-3, 251]])
    assert first.landmarks is not None
    assert first.landmarks.dtype == np.float32


def test_an_image_that_the_list_repeats_counts_each_time(tmp_path: Path) -> None:
    splits = read_aflw(made(tmp_path))
    assert [record.id for record in splits["train"]] == ["0/a_1", "2/b_2"]
    assert [record.id for record in splits["test"]] == ["3/c_3", "0/d_4", "3/c_3#2"]
    assert splits["test"][0].uri == splits["test"][2].uri


def test_one_bad_face_is_broken(tmp_path: Path) -> None:
    root = made(tmp_path)
    gt, hw = np.stack([GT, GT]), np.array([[5.0, 5.0], [np.nan, 5.0]])
    gt[0, 3, 1] = np.nan
    scipy.io.savemat(tmp_path / "aflw_train_keypoints.mat", {"gt": gt, "hw": hw})
    first, second = read_aflw(root)["train"]
    assert first.broken.endswith("aflw_train_keypoints.mat row 1 of gt: point 4 of 5 is (nan, 241); wanted pixels")
    assert "row 2 of hw" in second.broken
    assert first.landmarks is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"gt": np.zeros((2, 5, 3))}, r"'gt' is 2 x 5 x 3 numbers; wanted n x 5 x 2"),
        ({"gt": np.zeros((2, 21, 2))}, r"'gt' is 2 x 21 x 2 numbers; wanted n x 5 x 2"),
        ({"hw": np.array([["a", "b"]])}, r"has no variable 'hw' of real numbers"),
        ({"gt": np.ones((4, 5, 2))}, r"4 faces in gt and 2 in hw, but aflw_train_images.txt names 2; get both"),
    ],
)
def test_arrays_of_another_form_are_named(tmp_path: Path, changed: Any, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        read_aflw(made(tmp_path, **changed))
    assert str(caught.value).startswith(f"{tmp_path}/aflw_train_keypoints.mat")


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not there; data.train must be the folder of the data set"):
        read_aflw(str(tmp_path / "none"))
    with pytest.raises(DataError, match="has no aflw_train_images.txt; unpack"):
        read_aflw(str(tmp_path))
    root = made(tmp_path)
    mat = tmp_path / "aflw_test_keypoints.mat"
    mat.write_bytes(mat.read_bytes()[:150])
    with pytest.raises(DataError, match="aflw_test_keypoints.mat is not a MATLAB file of version 5 to 7"):
        read_aflw(root)
    scipy.io.savemat(mat, {"hw": np.ones((3, 2))})
    with pytest.raises(DataError, match="aflw_test_keypoints.mat has no variable 'gt'"):
        read_aflw(root)
    (tmp_path / "aflw_test_images.txt").write_text("a.jpg\nb c.jpg\n")
    with pytest.raises(DataError, match=r"aflw_test_images.txt line 2: got 2 words, wanted one image name"):
        read_aflw(root)
    (tmp_path / "aflw_test_images.txt").write_text("\n")
    with pytest.raises(DataError, match="aflw_test_images.txt names no image"):
        read_aflw(root)
