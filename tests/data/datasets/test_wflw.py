"""WFLW: 98 points, a face box, several faces of one photograph."""

from pathlib import Path

import numpy as np
import pytest

from uldscale.data.datasets.wflw import read_wflw
from uldscale.errors import DataError

NAME = "37--Soccer/37_Soccer_soccer_ball_37_45.jpg"


def line(name: str, x: float = 0.0) -> str:
    points = [f"{value:f}" for i in range(98) for value in (x + i, 2 * i)]
    return f"{' '.join(points)} 182 268 209 302 1 0 0 0 1 0 {name}"


def made(root: Path, folder: str = "WFLW_annotations/list_98pt_rect_attr_train_test") -> str:
    (root / "WFLW_images").mkdir()
    (root / folder).mkdir(parents=True, exist_ok=True)
    (root / folder / "list_98pt_rect_attr_train.txt").write_text(f"{line(NAME)}\n{line('b.jpg')}\n{line(NAME, 500)}\n")
    (root / folder / "list_98pt_rect_attr_test.txt").write_text(f"{line('c.jpg')}\n")
    return str(root)


def test_points_box_and_repeated_photographs(tmp_path: Path) -> None:
    splits = read_wflw(made(tmp_path))
    first, second, third = splits["train"]
    assert [first.id, second.id, third.id] == [NAME[:-4], "b", f"{NAME[:-4]}#2"]
    assert first.uri == third.uri == f"{tmp_path}/WFLW_images/{NAME}"
    assert first.box == (182, 268, 209, 302)
    assert first.landmarks is not None
    assert third.landmarks is not None
    np.testing.assert_array_equal(first.landmarks[[0, 97]], [[0, 0], [97, 194]])
    assert third.landmarks[0, 0] == 500
    assert [record.id for record in splits["test"]] == ["c"]


def test_lists_may_lie_beside_the_images(tmp_path: Path) -> None:
    assert len(read_wflw(made(tmp_path, "."))["train"]) == 3


def test_one_bad_number_breaks_one_face(tmp_path: Path) -> None:
    root = made(tmp_path, ".")
    path = tmp_path / "list_98pt_rect_attr_train.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], "", lines[1].replace("182 268", "- 268"), "nan" + lines[2][10:]]))
    first, second, third = read_wflw(root)["train"]
    assert first.broken == ""
    assert second.broken == f"{path} line 3: got '-', wanted a number"
    assert third.broken == f"{path} line 4: point 1 of 98 is (nan, 0); wanted pixels"


def test_lists_of_another_form_are_refused(tmp_path: Path) -> None:
    root = made(tmp_path, ".")
    path = tmp_path / "list_98pt_rect_attr_test.txt"
    path.write_text(f"{line('a.jpg')}\n{line('b c.jpg')}\n")
    with pytest.raises(DataError, match=r"test.txt line 2: got 208 words, wanted 207: 98 points, a box, 6 attributes"):
        read_wflw(root)
    path.write_text("")
    with pytest.raises(DataError, match="test.txt names no image"):
        read_wflw(root)
    path.unlink()
    with pytest.raises(DataError, match=r"has no WFLW_annotations/.*_test.txt and no .* unpack the data set there"):
        read_wflw(root)
    (tmp_path / "WFLW_images").rmdir()
    with pytest.raises(DataError, match="has no WFLW_images"):
        read_wflw(root)
