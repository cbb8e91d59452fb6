"""The index: every image has a row, in an order of its own, and a row that cannot be used says why."""

import errno
import functools
import hashlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, get_args

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from uldscale import config
from uldscale.data.images import decode
from uldscale.data.index import DataConfig, ImageIndex
from uldscale.data.listing import conventions, list_records
from uldscale.data.sources import from_folder, ids_of
from uldscale.errors import ConfigError, DataError
from uldscale.runtime.roles import RuntimeConfig
from uldscale.stages.index import build_index

ALONE = RuntimeConfig(ray=False)


def picture(path: Path, seed: int = 0, width: int = 40, height: int = 32) -> NDArray[np.uint8]:
    """Writes an image of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


@pytest.fixture
def web_server(folder: Path) -> Iterator[str]:
    """Address of a server on this machine that gives the files of `folder`."""
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three good images and one of each way to be broken, among files that are no images."""
    root = tmp_path / "faces"
    for seed, name in enumerate(["b.png", "a.jpg", "sub/c.png"]):
        picture(root / name, seed)
    (root / "empty.jpg").touch()
    (root / "text.jpg").write_text("hello world")
    (root / "cut.jpg").write_bytes((root / "a.jpg").read_bytes()[:400])
    (root / "notes.txt").write_text("no image")
    (root / "._a.jpg").write_bytes(b"left by another system")
    (root / ".cache").mkdir()
    (root / ".cache" / "a.jpg").write_bytes(b"hidden")
    return root


def folder_config(root: Path, **changes: Any) -> DataConfig:
    return DataConfig(kind="folder", train=str(root), **changes)


def ids(index: ImageIndex, rows: NDArray[np.int64] | None = None) -> list[str]:
    return [index.row(int(i)).id for i in (range(len(index)) if rows is None else rows)]


def test_every_image_has_a_row_in_the_order_of_its_id(folder: Path) -> None:
    index = ImageIndex.build(folder_config(folder))
    assert ids(index) == ["a", "b", "cut", "empty", "sub/c", "text"]
    assert index.rows("train").tolist() == index.rows().tolist() == [0, 1, 4]
    assert index.rows("test").tolist() == []


def test_broken_images_are_quarantined_with_a_reason(folder: Path) -> None:
    broken = {row.id: row for row in ImageIndex.build(folder_config(folder)).quarantined()}
    assert {id: row.reason.split(":")[0] for id, row in broken.items()} == {
        "cut": "truncated",
        "empty": "the file is empty",
        "text": "not an image that can be read here; wanted JPEG, PNG, BMP, GIF, WEBP, TIFF, JPEG2000, PPM, AVIF",
    }
    assert {row.status for row in broken.values()} == {"quarantined"}


def test_a_row_says_what_the_image_is(folder: Path) -> None:
    row = ImageIndex.build(folder_config(folder)).row(1)
    assert (row.id, row.uri, row.split) == ("b", str(folder / "b.png"), "train")
    assert (row.width, row.height, row.roi) == (40, 32, (0, 0, 40, 32))
    assert row.sha256 == hashlib.sha256((folder / "b.png").read_bytes()).hexdigest()
    assert (row.landmarks, row.visible, row.yaw, row.status, row.reason) == (None, None, None, "ok", "")


def test_a_written_index_is_read_back(folder: Path, tmp_path: Path) -> None:
    index = ImageIndex.build(folder_config(folder))
    index.write(str(tmp_path / "index.parquet"))
    again = ImageIndex.read(str(tmp_path / "index.parquet"))
    assert again.table.equals(index.table, check_metadata=True)
    assert again.fingerprint() == index.fingerprint()


def test_equal_inputs_give_equal_bytes(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    walk = os.walk

    def backwards(*arguments: Any, **options: Any) -> Any:
        for top, below, names in walk(*arguments, **options):
            below.reverse()
            yield top, below, names[::-1]

    for name in ("1", "2"):
        ImageIndex.build(folder_config(folder)).write(str(tmp_path / name))
        monkeypatch.setattr(os, "walk", backwards)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


@pytest.mark.parametrize("change", ["content", "name", "broken"])
def test_the_fingerprint_sees_every_change(folder: Path, change: str) -> None:
    before = ImageIndex.build(folder_config(folder)).fingerprint()
    if change == "content":
        picture(folder / "b.png", 9)
    elif change == "name":
        (folder / "b.png").rename(folder / "d.png")
    else:
        (folder / "b.png").write_bytes((folder / "b.png").read_bytes()[:300])
    assert ImageIndex.build(folder_config(folder)).fingerprint() != before


def test_the_fingerprint_sees_regions(tmp_path: Path) -> None:
    data = {"kind": "coco", "train": coco(tmp_path)}
    tight, wide = (
        ImageIndex.build(DataConfig.model_validate({**data, "roi": {"provider": "annotation", "margin": margin}}))
        for margin in (0, 0.1)
    )
    assert tight.rows().tolist() == wide.rows().tolist()
    assert tight.fingerprint() != wide.fingerprint()


def test_load_gives_the_crop(folder: Path) -> None:
    index = ImageIndex.build(folder_config(folder))
    assert index.load(0, 16).shape == (16, 16, 3)
    picture(folder / "square.png", width=32, height=32)
    index = ImageIndex.build(folder_config(folder))
    np.testing.assert_array_equal(index.load(4, 32), decode(str(folder / "square.png")))


def test_an_image_that_changed_or_went_is_an_error(folder: Path) -> None:
    index = ImageIndex.build(folder_config(folder))
    picture(folder / "b.png", 5)
    with pytest.raises(DataError, match=r"b.png has changed since it was indexed"):
        index.load(1, 16)
    (folder / "b.png").unlink()
    with pytest.raises(DataError, match="b.png could be read when it was indexed, but now the file is not there"):
        index.load(1, 16)


@pytest.mark.parametrize(
    ("fill", "said"),
    [
        (lambda root: None, "image folder '.*' is not there"),
        (lambda root: root.mkdir(), "holds no image: got no file"),
        (lambda root: (root.mkdir(), (root / "a.xyz").touch()), r"holds no image: got 1 files \(.xyz\), wanted"),
        (lambda root: root.touch(), "is a file, but data.kind 'folder' wants a folder"),
        (
            lambda root: (root.mkdir(), (root / "a.jpg").touch()),
            "data.train: none of 1 images .*a.jpg: the file is empty",
        ),
    ],
)
def test_sources_without_an_image_are_one_clear_line(tmp_path: Path, fill: Callable[[Path], Any], said: str) -> None:
    fill(tmp_path / "faces")
    with pytest.raises(DataError, match=said) as caught:
        ImageIndex.build(folder_config(tmp_path / "faces"))
    assert "\n" not in str(caught.value)


def test_each_split_needs_a_usable_image(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "a.jpg").touch()
    with pytest.raises(DataError, match="data.test: none of 1 images"):
        ImageIndex.build(folder_config(folder, test=str(tmp_path / "test")))


def test_rows_of_both_splits_are_in_one_order(folder: Path, tmp_path: Path) -> None:
    picture(tmp_path / "test" / "ab.jpg")
    index = ImageIndex.build(folder_config(folder, test=str(tmp_path / "test")))
    assert ids(index) == ["a", "ab", "b", "cut", "empty", "sub/c", "text"]
    assert index.rows("test").tolist() == [1]


def test_ids_are_unique_over_the_splits(folder: Path, tmp_path: Path) -> None:
    picture(tmp_path / "test" / "a.jpg")
    index = ImageIndex.build(folder_config(folder, test=str(tmp_path / "test")))
    assert ids(index, index.rows("test")) == ["test/a"]
    assert ids(index, index.rows("train")) == ["train/a", "train/b", "train/sub/c"]


@given(st.lists(st.from_regex(r"[ab]{1,2}(\.(png|jpg)){1,2}", fullmatch=True), unique=True))
def test_ids_are_unique_and_free_of_order(names: list[str]) -> None:
    found = dict(zip(names, ids_of(names), strict=True))
    assert len(set(found.values())) == len(names)
    assert found == dict(zip(names[::-1], ids_of(names[::-1]), strict=True))


def test_limit_is_a_choice_by_id(folder: Path) -> None:
    for seed in range(20):
        picture(folder / f"{seed}.png", seed)
    few = ids(ImageIndex.build(folder_config(folder, limit=8)))
    more = ids(ImageIndex.build(folder_config(folder, limit=9)))
    assert (len(few), len(more)) == (8, 9)
    assert set(few) < set(more)
    assert few != sorted(ids(ImageIndex.build(folder_config(folder))))[:8]


def test_people_who_are_held_out_are_in_one_split_and_the_test_images_are_not_read(folder: Path) -> None:
    entries = [{"id": i, "file_name": f"{i}.png", "subject": i // 4} for i in range(40)]
    annotated = [{"image_id": i % 40, "bbox": [0, 0, 8, 8]} for i in range(80)]
    (folder / "faces.json").write_text(json.dumps({"images": entries, "annotations": annotated}))
    faces = str(folder / "faces.json")
    few, more = (
        list_records(DataConfig(kind="coco", train=faces, test="not there", held_out=share)) for share in (0.2, 0.3)
    )
    left, others = ({record.person for split, record in few if split == name} for name in ("test", "train"))
    assert (len(left), len(others)) == (2, 8)
    assert not left & others
    assert left < {record.person for split, record in more if split == "test"}


def test_without_people_an_image_is_held_out_with_all_its_objects(folder: Path) -> None:
    entries = [{"id": i, "file_name": f"{i}.png"} for i in range(20)]
    annotated = [{"image_id": i % 20, "bbox": [0, 0, 8, 8]} for i in range(40)]
    (folder / "heads.json").write_text(json.dumps({"images": entries, "annotations": annotated}))
    found = list_records(DataConfig(kind="coco", train=str(folder / "heads.json"), held_out=0.25))
    assert [split for split, _ in found].count("test") == 10
    assert not {record.uri for split, record in found if split == "test"} & {
        r.uri for split, r in found if split == "train"
    }


def test_a_folder_that_cannot_be_read_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless it is hidden. By a mock: the superuser, as whom tests may run, reads everything."""
    listed = os.scandir

    def scandir(path: str) -> Any:
        if os.path.basename(path) in ("sub", ".sub", ".cache"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match="/faces/sub cannot be read: Permission denied; make it readable"):
        from_folder(str(folder))
    (folder / "sub").rename(folder / ".sub")
    assert [record.id for record in from_folder(str(folder))] == ["a", "b", "cut", "empty", "text"]


def test_links_are_followed_once(folder: Path) -> None:
    (folder / "loop").symlink_to(folder)
    (folder / "again").symlink_to(folder / "sub")
    found = ids(ImageIndex.build(folder_config(folder)))
    assert len(found) == len(set(found))
    assert not any(id.startswith("loop") for id in found)
    assert {"a", "b"} <= set(found)


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems take UTF-8 names only")
def test_a_name_that_is_no_text_is_a_clear_line(folder: Path) -> None:
    (folder / "b.png").rename(os.fsdecode(os.fsencode(folder) + b"/b\xff.png"))
    with pytest.raises(DataError, match="is not UTF-8; rename the file"):
        ImageIndex.build(folder_config(folder))


def test_a_folder_in_a_bucket(folder: Path) -> None:
    memory = fsspec.filesystem("memory")
    for name in ("a.jpg", "b.png", "sub/c.png"):
        memory.pipe(f"/bucket/{name}", (folder / name).read_bytes())
    index = ImageIndex.build(DataConfig(kind="folder", train="memory://bucket"))
    assert ids(index) == ["a", "b", "sub/c"]
    assert index.load(2, 16).shape == (16, 16, 3)
    assert ids(ImageIndex.build(DataConfig(kind="glob", train="memory://bucket/**/*.png"))) == ["b", "sub/c"]


def test_a_bucket_without_its_package_is_a_clear_line() -> None:
    with pytest.raises(DataError, match="cannot be opened"):
        ImageIndex.build(DataConfig(kind="folder", train="nosuch://bucket"))


def test_glob(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pattern = DataConfig(kind="glob", train=f"{folder}/**/*.png")
    assert ids(ImageIndex.build(pattern)) == ["b", "sub/c"]
    monkeypatch.chdir(folder)
    index = ImageIndex.build(DataConfig(kind="glob", train="*/*.png"))
    assert (ids(index), index.row(0).uri) == (["sub/c"], str(folder / "sub/c.png"))
    with pytest.raises(DataError, match="pattern 'x\\*' holds no image"):
        ImageIndex.build(DataConfig(kind="glob", train="x*"))


def test_list(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text(f"# faces\n./b.png\n\nsub/c.png\nnone.png\n{folder}/a.jpg\n")
    index = ImageIndex.build(DataConfig(kind="list", train=str(tmp_path / "train.txt"), images=str(folder)))
    assert sorted(row.uri for row in map(index.row, index.rows())) == [
        str(folder / name) for name in ("a.jpg", "b.png", "sub/c.png")
    ]
    assert [row.reason for row in index.quarantined()] == ["the file is not there"]
    (folder / "own.txt").write_text("a.jpg\n")
    assert ids(ImageIndex.build(DataConfig(kind="list", train=str(folder / "own.txt")))) == ["a"]


@pytest.mark.parametrize(
    ("text", "said"), [("a.jpg\nb.jpg\n./a.jpg", "line 3: 'a.jpg' is on line 1 already"), ("\n# a\n", "names no image")]
)
def test_bad_lists(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "train.txt").write_text(text)
    with pytest.raises(DataError, match=said):
        ImageIndex.build(DataConfig(kind="list", train=str(tmp_path / "train.txt")))


def listing(path: Path, *names: str, **settings: Any) -> DataConfig:
    path.write_text("\n".join(names))
    return DataConfig(kind="list", train=str(path), **settings)


@pytest.mark.parametrize(
    "name",
    [
        "../secret.jpg",
        "sub/../../secret.jpg",
        "../faces-of-others/a.jpg",
        "/etc/hostname",
        "file:///etc/hostname",
        "http://169.254.169.254/latest/meta-data",
        "s3://bucket/a.jpg",
        "simplecache::memory://bucket/a.jpg",
        "zip://a.jpg::memory://bucket/a.zip",
    ],
)
def test_a_list_names_nothing_outside_its_folder(folder: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"own.txt line 2: .* is not below '.*'; wanted a file there") as caught:
        ImageIndex.build(listing(folder / "own.txt", "b.png", name))
    assert "\n" not in str(caught.value)
    for images in ("memory://bucket/faces", "https://example.org/faces/"):
        with pytest.raises(DataError, match=r"own.txt line 1: .* is not below"):
            ImageIndex.build(listing(folder / "own.txt", name, images=images))


@pytest.mark.parametrize("name", ["../a.jpg", "%2e%2e/a.jpg", "x/%2E%2E%2f../a.jpg", "a.jpg::file:///etc/hostname"])
def test_a_name_cannot_leave_the_beginning_that_is_allowed(folder: Path, name: str) -> None:
    for allow in ("memory://bucket/faces/", "https://"):
        with pytest.raises(DataError, match="is not below"):
            ImageIndex.build(listing(folder / "own.txt", f"memory://bucket/faces/{name}", allow=(allow,)))


def test_names_elsewhere_need_to_be_allowed(folder: Path) -> None:
    fsspec.filesystem("memory").pipe("/allowed/a.png", (folder / "b.png").read_bytes())
    index = ImageIndex.build(
        listing(folder / "own.txt", "memory://allowed/a.png", "b.png", allow=("memory://allowed/",))
    )
    assert len(index.rows()) == 2
    with pytest.raises(DataError, match=r"data.allow = \['memory://allow/'\]"):
        ImageIndex.build(listing(folder / "own.txt", "memory://allowed/a.png", allow=("memory://allow/",)))


def test_a_link_in_the_folder_is_followed(folder: Path, tmp_path: Path) -> None:
    picture(tmp_path / "cache" / "1234.png", 7)
    (folder / "linked.png").symlink_to(tmp_path / "cache" / "1234.png")
    assert len(ImageIndex.build(listing(folder / "own.txt", "linked.png")).rows()) == 1


def test_a_file_that_is_no_image_is_not_quoted(folder: Path) -> None:
    (folder / "key").write_text("-----BEGIN PRIVATE KEY-----")
    index = ImageIndex.build(listing(folder / "own.txt", "b.png", "key"))
    assert [row.id for row in index.quarantined()] == ["key"]
    assert not any("PRIVATE" in str(value) for value in index.table.to_pylist())


def test_an_inside_server_is_asked_only_when_the_job_names_it(folder: Path, web_server: str) -> None:
    named = listing(folder / "own.txt", "b.png", f"{web_server}/a.jpg", allow=("http://",))
    assert "is an inside address" in ImageIndex.build(named).quarantined()[0].reason
    index = ImageIndex.build(listing(folder / "own.txt", "b.png", f"{web_server}/a.jpg", allow=(f"{web_server}/",)))
    index.write(str(folder / "index.parquet"))
    again = ImageIndex.read(str(folder / "index.parquet"))
    assert [again.load(int(i), 16).shape for i in again.rows()] == [(16, 16, 3)] * 2


def coco(folder: Path, points: int = 2, width: int = 40) -> str:
    """Two images: a with a box, points and yaw; b without annotation."""
    for seed, name in enumerate(["a.png", "b.png"]):
        picture(folder / "images" / name, seed)
    content = {
        "images": [
            {"id": 2, "file_name": "a.png", "width": width, "height": 32, "yaw": 30},
            {"id": 1, "file_name": "b.png"},
        ],
        "annotations": [{"id": 1, "image_id": 2, "bbox": [10, 6, 10, 20], "keypoints": [10, 6, 2, 3, 3, 0, 20, 26, 1]}],
    }
    content["annotations"][0]["keypoints"] = content["annotations"][0]["keypoints"][: 3 * points]  # type: ignore[index]
    path = folder / f"{points}.json"
    path.write_text(json.dumps(content))
    return str(path)


def test_landmarks_are_units_of_the_crop(tmp_path: Path) -> None:
    index = ImageIndex.build(DataConfig(kind="coco", train=coco(tmp_path, points=3)))
    units = index.landmarks(np.array([1, 0, 0]))
    assert units.shape == (3, 3, 2)
    assert units.dtype == np.float32
    assert np.isnan(units[0]).all()
    expected = np.array([[10 / 40, 6 / 32], [np.nan, np.nan], [20 / 40, 26 / 32]], np.float32)
    np.testing.assert_allclose(units[1], expected, rtol=1e-6)
    np.testing.assert_array_equal(index.yaw(np.array([0, 1])), np.array([30, np.nan], np.float32))


def test_landmarks_follow_the_region(tmp_path: Path) -> None:
    data = {"kind": "coco", "train": coco(tmp_path, points=3), "roi": {"provider": "annotation", "margin": 0.5}}
    index = ImageIndex.build(DataConfig.model_validate(data))
    # The box 10..20 x 6..26 becomes a square of side 20 around (15, 16), then of side 40.
    assert index.row(0).roi == (-5, -4, 35, 36)
    np.testing.assert_allclose(index.landmarks(np.array([0]))[0, 0], [15 / 40, 10 / 40], rtol=1e-6)
    assert index.quarantined()[0].reason.startswith("no annotation with a bbox")
    assert np.isnan(index.landmarks(np.array([1]))).all()


@settings(max_examples=20, deadline=None)
@given(st.tuples(st.floats(2, 20), st.floats(2, 12), st.integers(8, 30)))
def test_the_crop_shows_at_a_landmark_what_the_image_shows(
    tmp_path_factory: pytest.TempPathFactory, place: tuple[float, float, int]
) -> None:
    x, y, side = place
    folder = tmp_path_factory.mktemp("dot")
    ramp = np.stack([*np.meshgrid(np.arange(64) * 3, np.arange(64) * 3), np.zeros((64, 64))], axis=-1).astype(np.uint8)
    Image.fromarray(ramp).save(folder / "a.png")
    point = [x + side / 3, y + side / 2]
    content = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [{"image_id": 1, "bbox": [x, y, side, side], "keypoints": [*point, 2]}],
    }
    (folder / "a.json").write_text(json.dumps(content))
    data = {"kind": "coco", "train": str(folder / "a.json"), "roi": {"provider": "annotation"}}
    index = ImageIndex.build(DataConfig.model_validate(data))
    column, row = np.floor(index.landmarks(np.array([0]))[0, 0] * 64).astype(int)
    colour = index.load(0, 64)[row, column].astype(float)
    assert np.abs((colour[:2] + 1.5) / 3 - point).max() < 1


def test_no_landmarks_at_all(folder: Path) -> None:
    index = ImageIndex.build(folder_config(folder))
    assert index.landmarks(index.rows()).shape == (3, 0, 2)
    assert np.isnan(index.yaw(index.rows())).all()


def test_splits_with_other_landmarks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="share one set of landmarks, but have 2 points .* and 3 points"):
        ImageIndex.build(DataConfig(kind="coco", train=coco(tmp_path, points=2), test=coco(tmp_path, points=3)))


def test_an_annotation_of_another_size_is_quarantined(tmp_path: Path) -> None:
    index = ImageIndex.build(DataConfig(kind="coco", train=coco(tmp_path, width=80)))
    assert [row.reason for row in index.quarantined()] == ["annotated as 80 x 32 px, but the image is 40 x 32 px"]
    assert np.isnan(index.landmarks(np.array([0]))).all()


def objects(folder: Path, boxes: dict[str, Any]) -> DataConfig:
    (folder / "boxes.json").write_text(json.dumps(boxes))
    roi = {"provider": "file", "file": str(folder / "boxes.json"), "objects": "all"}
    return DataConfig.model_validate({"kind": "folder", "train": str(folder), "roi": roi})


def test_every_object_has_a_row(folder: Path) -> None:
    """The largest first; an image whose own id comes between keeps its place in the order of ids."""
    picture(folder / "a b.png", 3)
    several = [[0, 0, 10, 10], [10, 10, 30, 30], [20, 0, 35, 15]]
    index = ImageIndex.build(objects(folder, {"a": several, "a b": several[:1], "b": several[:2]}))
    assert ids(index) == ["a", "a b", "a#2", "a#3", "b", "b#2", "cut", "empty", "sub/c", "text"]
    assert [index.row(i).roi for i in (0, 2, 3)] == [(10, 10, 30, 30), (20, 0, 35, 15), (0, 0, 10, 10)]
    assert len({index.row(i).uri for i in (0, 2, 3)}) == 1
    assert index.load(3, 16).shape == (16, 16, 3)
    assert [(row.id, row.status) for row in index.quarantined()] == [
        ("cut", "quarantined"), ("empty", "quarantined"), ("sub/c", "no_region"), ("text", "quarantined")
    ]  # fmt: skip
    assert index.regions() == {
        "provider": "file", "objects": "all", "margin": 0.0, "file": str(folder / "boxes.json"),
        "images": 4, "found": 3, "share_found": 0.75, "objects_found": 6,
    }  # fmt: skip


def test_two_objects_of_one_id_are_refused(folder: Path) -> None:
    picture(folder / "a#2.png", 3)
    with pytest.raises(DataError, match="two objects have the id 'a#2'; rename the image"):
        ImageIndex.build(objects(folder, {"a": [[0, 0, 9, 9], [9, 9, 20, 20]], "a#2": [0, 0, 9, 9]}))


def test_an_index_says_how_annotations_were_read(tmp_path: Path) -> None:
    data = DataConfig(kind="coco", train=coco(tmp_path), exif="upright", first_pixel=1)
    ImageIndex.build(data).write(str(tmp_path / "index.parquet"))
    said = ImageIndex.read(str(tmp_path / "index.parquet")).conventions
    assert said == (
        "COCO: the only category, the first pixel is (1, 1) in the file and (0, 0) here, visibility 0 is a missing point; "
        "EXIF: annotations are of the upright image"
    )


def test_every_kind_says_how_annotations_are_read() -> None:
    for kind in get_args(DataConfig.model_fields["kind"].annotation):
        said = conventions(DataConfig(kind=kind, train=3 if kind == "faces3d" else "a"))
        assert len(said) > 20
        assert "\n" not in said


def test_generated_faces() -> None:
    index = ImageIndex.build(DataConfig(kind="faces3d", train=3, test=2, size=32, max_yaw=45))
    assert ids(index) == ["face-0000000", "face-0000001", "face-0000002", "face-1000000", "face-1000001"]
    assert (index.rows("train").tolist(), index.rows("test").tolist()) == ([0, 1, 2], [3, 4])
    row = index.row(3)
    assert row.uri == "faces3d:32/45/1000000"
    assert row.sha256 == hashlib.sha256(decode(row.uri).tobytes()).hexdigest()
    assert row.visible is not None
    assert row.visible.shape == (68,)
    assert row.landmarks is not None
    assert row.landmarks.shape == (68, 2)
    np.testing.assert_allclose(index.landmarks(np.array([3]))[0], row.landmarks / 32, rtol=1e-5)
    assert np.abs(index.yaw(index.rows())).max() <= 45
    np.testing.assert_array_equal(index.load(3, 32), decode(row.uri))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kind": "faces3d", "train": "100"}, "data.train must be a number of images for data.kind 'faces3d'"),
        ({"kind": "faces3d", "train": 0}, "data.train must be within 1 and 1000000"),
        ({"kind": "folder", "train": 100}, "data.train must be a path for data.kind 'folder'"),
        ({"kind": "folder", "train": "a", "test": 100}, "data.test must be a path"),
        ({"kind": "folder", "train": "a", "images": "b"}, "data.images has no meaning"),
        ({"kind": "folder", "train": "a", "allow": ["https://"]}, "data.allow has no meaning"),
        *(
            ({"kind": "list", "train": "a", "allow": [beginning]}, "allow")
            for beginning in ("s3://", "file:///", "s3://faces", "http://10.0.0.5", "/data/", "a::s3://faces/")
        ),
        ({"kind": "folder", "train": "a", "roi": {"provider": "annotation"}}, "needs data.kind 'coco'"),
        ({"kind": "folder", "train": "a", "size": 31}, "greater than or equal to 32"),
        ({"kind": "folder", "train": "a", "category": "cat"}, "data.category has no meaning"),
        ({"kind": "mtfl", "train": "a", "first_pixel": 0}, "data.first_pixel has no meaning"),
        (
            {"kind": "coco", "train": "a", "roi": {"provider": "face", "objects": "all"}},
            "is for images without annotations",
        ),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        config.validate(DataConfig, settings, "job.yaml")


def test_other_files_are_not_an_index(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not there; make it with"):
        ImageIndex.read(str(tmp_path / "index.parquet"))
    (tmp_path / "index.parquet").write_text("hello")
    with pytest.raises(DataError, match="is not an image index"):
        ImageIndex.read(str(tmp_path / "index.parquet"))
    pq.write_table(ImageIndex.build(folder_config(folder)).table.select(["id"]), tmp_path / "index.parquet")
    with pytest.raises(DataError, match="has other columns"):
        ImageIndex.read(str(tmp_path / "index.parquet"))


def test_the_stage_builds_once_and_says_so(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "run" / "index.parquet")
    first = build_index(folder_config(folder), path, ALONE)
    said = capsys.readouterr().out
    assert said.startswith("index: 3 train and 0 test images, 3 quarantined (cut: truncated: ")
    assert said.count("\n") == 1
    report = json.loads((tmp_path / "run" / "quarantined.json").read_text())
    assert [entry["id"] for entry in report] == ["cut", "empty", "text"]
    assert all(entry["reason"] for entry in report)
    written = os.stat(path).st_mtime_ns
    assert build_index(folder_config(folder), path, ALONE).fingerprint() == first.fingerprint()
    assert (capsys.readouterr().out, os.stat(path).st_mtime_ns) == ("", written)
    assert len(build_index(folder_config(folder, limit=4), path, ALONE)) == len(ImageIndex.read(path)) == 4


def test_all_images_of_a_folder(folder: Path) -> None:
    names = ["a.jpg", "b.png", "cut.jpg", "empty.jpg", "sub/c.png", "text.jpg"]
    assert [record.uri for record in from_folder(str(folder))] == [str(folder / name) for name in names]


def test_real_faces(shared: Path) -> None:
    faces = shared / "data" / "faces68"
    if not faces.is_dir():
        pytest.skip(f"{faces} is not there")
    index = ImageIndex.build(
        DataConfig(kind="coco", train=str(faces / "train.json"), test=str(faces / "test.json"), limit=80)
    )
    rows = index.rows()
    assert 100 < len(rows) <= len(index) == 160
    units = index.landmarks(rows)
    assert units.shape == (len(rows), 68, 2)
    left, right = units[:, 36:42].mean(axis=1), units[:, 42:48].mean(axis=1)
    assert (left[:, 0] < right[:, 0]).all()
    assert np.abs(np.nanmean(units, axis=(0, 1)) - 0.5).max() < 0.1
    assert np.abs(index.yaw(rows)).max() < 90
    assert index.load(int(rows[0]), 64).shape == (64, 64, 3)
