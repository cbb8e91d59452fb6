"""COCO keypoints: what is in the file is in the records; what is wrong with the file is named by its place."""

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uldscale.data.annotations import read_coco
from uldscale.errors import DataError


def coco() -> dict[str, Any]:
    """Two images with two points each."""
    return {
        "images": [
            {"id": 7, "file_name": "b.jpg", "width": 20, "height": 10, "yaw": -12.5},
            {"id": "x", "file_name": "sub/a.png"},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 1, "keypoints": [1, 2, 2, 3.5, 4, 1], "bbox": [1, 2, 10, 5]},
            {"id": 2, "image_id": "x", "category_id": 1, "keypoints": [5, 6, 2, 9, 9, 0]},
        ],
        "categories": [{"id": 1, "name": "face", "keypoints": ["left", "right"]}],
    }


def saved(folder: Path, content: Any) -> str:
    path = folder / "train.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_records_hold_what_the_file_says(tmp_path: Path) -> None:
    b, a = read_coco(saved(tmp_path, coco()), None)
    assert (b.id, b.uri, b.yaw, b.box, b.extent) == ("b", f"{tmp_path}/b.jpg", -12.5, (1, 2, 11, 7), (20, 10))
    assert (a.id, a.uri, a.yaw, a.box, a.extent) == ("sub/a", f"{tmp_path}/sub/a.png", None, None, None)
    np.testing.assert_array_equal(b.landmarks, np.array([[1, 2], [3.5, 4]], np.float32))
    np.testing.assert_array_equal(b.visible, [True, False])
    np.testing.assert_array_equal(a.landmarks, np.array([[5, 6], [np.nan, np.nan]], np.float32))
    np.testing.assert_array_equal(a.visible, [True, False])


def test_images_are_found_beside_the_file_or_in_its_images_folder(tmp_path: Path) -> None:
    path = saved(tmp_path, coco())
    (tmp_path / "images").mkdir()
    assert read_coco(path, None)[0].uri == f"{tmp_path}/images/b.jpg"
    (tmp_path / "b.jpg").touch()
    assert read_coco(path, None)[0].uri == f"{tmp_path}/b.jpg"
    assert read_coco(path, "/elsewhere")[0].uri == "/elsewhere/b.jpg"


@pytest.mark.parametrize("name", ["../b.jpg", "/etc/hostname", "https://example.org/b.jpg", "a::memory://x/b.jpg"])
def test_an_image_outside_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    content = coco()
    content["images"][1]["file_name"] = name
    path = saved(tmp_path, content)
    for images in (None, "memory://x"):
        with pytest.raises(DataError, match=r"train.json: images\[1\].file_name: .* is not below") as caught:
            read_coco(path, images, ["memory://x/"])
        assert "\n" not in str(caught.value)


def test_an_image_elsewhere_can_be_allowed(tmp_path: Path) -> None:
    content = coco()
    content["images"][1]["file_name"] = "https://example.org/a.png"
    assert read_coco(saved(tmp_path, content), None, ["https://"])[1].uri == "https://example.org/a.png"


def test_each_annotation_of_an_image_is_a_record(tmp_path: Path) -> None:
    content = coco()
    content["annotations"][1]["image_id"] = 7
    ids = [
        (r.id, None if r.landmarks is None else r.landmarks[0, 0]) for r in read_coco(saved(tmp_path, content), None)
    ]
    assert ids == [("b", 1.0), ("b#2", 5.0), ("sub/a", None)]


def test_crowds_are_kept_but_never_used(tmp_path: Path) -> None:
    content = coco()
    content["annotations"][0]["iscrowd"] = 1
    assert [bool(r.broken) for r in read_coco(saved(tmp_path, content), None)] == [True, False]


def test_the_last_of_two_entries_that_name_one_file_counts(tmp_path: Path) -> None:
    content = coco()
    content["images"][1]["file_name"] = "./b.jpg"
    records = read_coco(saved(tmp_path, content), None)
    assert [(r.id, r.broken) for r in records] == [("b", "a later image entry names the same file"), ("b#2", "")]


def test_names_that_differ_in_their_extension_keep_it(tmp_path: Path) -> None:
    content = coco()
    content["images"][1]["file_name"] = "b.png"
    assert [r.id for r in read_coco(saved(tmp_path, content), None)] == ["b.jpg", "b.png"]


def test_annotations_may_have_boxes_alone(tmp_path: Path) -> None:
    content = coco()
    for annotation in content["annotations"]:
        del annotation["keypoints"]
    assert [r.landmarks for r in read_coco(saved(tmp_path, content), None)] == [None, None]


@pytest.mark.parametrize("keypoints", [None, [], "none"])
def test_an_annotation_without_keypoints_is_an_object_that_nobody_annotated(tmp_path: Path, keypoints: Any) -> None:
    content = coco()
    annotation = content["annotations"][0]
    if keypoints == "none":
        del annotation["keypoints"]
    else:
        annotation["keypoints"] = keypoints
    b, a = read_coco(saved(tmp_path, content), None)
    assert (b.landmarks, b.visible, b.box, b.broken) == (None, None, (1, 2, 11, 7), "")
    assert a.landmarks is not None


def categories() -> dict[str, Any]:
    """A face with two points, a cat with a box alone, in one image; another image shows the cat only."""
    content = coco()
    content["categories"].append({"id": 5, "name": "cat"})
    content["annotations"][1] = {"id": 2, "image_id": "x", "category_id": 5, "bbox": [0, 0, 3, 3]}
    content["annotations"].insert(0, {"id": 3, "image_id": 7, "category_id": 5, "bbox": [0, 0, 2, 2]})
    return content


def test_categories_are_chosen_by_name(tmp_path: Path) -> None:
    path = saved(tmp_path, categories())
    with pytest.raises(DataError, match=r"several categories: face \(1\), cat \(2\); choose with data.category"):
        read_coco(path, None)
    face, none = read_coco(path, None, categories=["face"])
    assert (face.id, face.box, none.broken) == ("b", (1, 2, 11, 7), "it has no annotation of face")
    assert [record.box for record in read_coco(path, None, categories=["cat"])] == [(0, 0, 2, 2), (0, 0, 3, 3)]
    both = read_coco(path, None, categories=["cat", "face"])
    assert [(record.id, record.landmarks is None) for record in both] == [("b", True), ("b#2", False), ("sub/a", True)]
    with pytest.raises(DataError, match=r"has no category 'dog'; it has face \(1\), cat \(2\)"):
        read_coco(path, None, categories=["dog"])


def test_pixels_counted_from_one(tmp_path: Path) -> None:
    b, a = read_coco(saved(tmp_path, coco()), None, first_pixel=1)
    assert b.box == (0, 1, 10, 6)
    np.testing.assert_array_equal(b.landmarks, np.array([[0, 1], [2.5, 3]], np.float32))
    np.testing.assert_array_equal(a.landmarks, np.array([[4, 5], [np.nan, np.nan]], np.float32))


DELETE = object()
MISTAKES: list[tuple[list[str | int], Any, str]] = [
    (["images"], DELETE, r"key 'images' is missing"),
    (["annotations"], {}, r"key 'annotations' is a dict; wanted a list"),
    (["images"], [], r"lists no image"),
    (["images", 1], "a.jpg", r"images\[1\] is 'a.jpg'"),
    (["images", 1, "id"], DELETE, r"images\[1\] has no key 'id'"),
    (["images", 1, "id"], 7, r"2 images share 1 ids"),
    (["images", 1, "id"], [1], r"images\[1\].id is \[1\]"),
    (["images", 0, "file_name"], DELETE, r"images\[0\] has no key 'file_name'"),
    (["images", 0, "file_name"], 3, r"images\[0\].file_name is 3"),
    (["images", 0, "yaw"], "left", r"images\[0\].yaw is 'left'"),
    (["annotations", 1, "image_id"], 8, r"annotations\[1\].image_id is 8, which no entry of images has"),
    (["annotations", 1, "image_id"], DELETE, r"annotations\[1\] has no key 'image_id'"),
    (["annotations", 1, "keypoints"], [1, 2], r"annotations\[1\].keypoints has 2 numbers, wanted 3 x 2 = 6"),
    (["annotations", 1, "keypoints"], 0, r"annotations\[1\].keypoints has 0 numbers"),
    (["annotations", 1, "keypoints"], {}, r"annotations\[1\].keypoints has 0 numbers"),
    (["annotations", 1, "category_id"], 2, r"several categories: face \(1\), 2 \(1\); choose with data.category"),
    (["annotations", 0, "keypoints", 1], "2", r"annotations\[0\].keypoints\[1\] is '2'; wanted a number"),
    (["annotations", 0, "keypoints", 1], 10**400, r"annotations\[0\].keypoints\[1\] is 10+; wanted a number"),
    (["annotations", 0, "keypoints", 0], float("nan"), r"annotations\[0\].keypoints\[0\] is nan"),
    (["annotations", 0, "keypoints", 2], 3, r"annotations\[0\].keypoints\[2\] is 3; wanted visibility 0"),
    (["annotations", 0, "category_id"], [1], r"annotations\[0\].category_id is \[1\]; wanted a number"),
    (["categories"], 5, r"categories is 5; wanted a list of objects"),
    (["categories", 0, "keypoints"], 2, r"categories\[0\].keypoints is 2; wanted a list of names"),
    (["categories", 0, "id"], {}, r"categories\[0\].id is {}; wanted a number"),
    (["annotations", 0, "bbox"], [1, 2, 3], r"annotations\[0\].bbox is \[1, 2, 3\]; wanted \[x, y, width, height\]"),
]


@pytest.mark.parametrize(("place", "value", "said"), MISTAKES)
def test_mistakes_are_named_by_their_place(tmp_path: Path, place: list[Any], value: Any, said: str) -> None:
    content = coco()
    spot: Any = content
    for part in place[:-1]:
        spot = spot[part]
    if value is DELETE:
        del spot[place[-1]]
    else:
        spot[place[-1]] = value
    path = saved(tmp_path, content)
    with pytest.raises(DataError, match=said) as caught:
        read_coco(path, None)
    assert str(caught.value).startswith(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{'images': []}", "is not JSON: .* line 1 column 2"),
        ("[]", "holds a list; wanted an object"),
        ("", "is not JSON"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_coco(saved(tmp_path, text), None)


def test_files_that_are_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not there"):
        read_coco(str(tmp_path / "none.json"), None)
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        read_coco(str(tmp_path), None)
    (tmp_path / "a.json").write_bytes(b"\x89PNG\xff")
    with pytest.raises(DataError, match="is not UTF-8 text"):
        read_coco(str(tmp_path / "a.json"), None)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(
    place=st.sampled_from([*(tuple(place) for place, _, _ in MISTAKES), ("images", 0, "width"), ("categories", 0)]),
    value=json_values,
)
def test_any_value_anywhere_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, place: tuple[Any, ...], value: Any
) -> None:
    content = coco()
    spot: Any = content
    for part in place[:-1]:
        spot = spot[part]
    spot[place[-1]] = value
    path = saved(tmp_path_factory.getbasetemp(), content)
    with contextlib.suppress(DataError):
        read_coco(path, None)
