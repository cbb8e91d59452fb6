"""The seam to TensorStore: documents that are whole or not there, and errors in words."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from uldscale.errors import StoreError
from uldscale.store import arrays, places
from uldscale.store.features import FeatureStore
from uldscale.store.reader import FeatureReader
from uldscale.store.spec import StoreSpec, TapSpec

NO_SPACE = (
    'RESOURCE_EXHAUSTED: Failed writing: "/x/a.__lock": Failed to write 1951424 bytes to file 3: '
    "No space left on device [os_error_code='28']"
)
"""What TensorStore 0.1.86 says when the disk is full."""


def test_documents(tmp_path: Path) -> None:
    place = places.open_root(str(tmp_path / "new"))
    assert arrays.read_document(place, "a/b.json") is None
    assert arrays.add_document(place, "a/b.json", {"x": [1]})
    assert not arrays.add_document(place, "a/b.json", {"x": [2]})
    assert arrays.read_document(place, "a/b.json") == {"x": [1]}
    arrays.write_document(place, "a/b.json", {"x": [3]})
    assert (tmp_path / "new/a/b.json").read_text() == '{\n  "x": [\n    3\n  ]\n}\n'
    assert arrays.names(place) == ["a/b.json"]
    arrays.remove_document(place, "a/b.json")
    arrays.remove_document(place, "a/b.json")
    assert arrays.names(place) == []


class Interrupted:
    """A place at which another writer is faster: its document comes in behind our look and before our write."""

    def __init__(self, place: Any) -> None:
        self.place, self.write = place, place.write

    def read(self, key: str) -> Any:
        looked = self.place.read(key)
        looked.result()
        arrays.write_document(self.place, key, "theirs")
        return looked


def test_a_document_that_comes_in_between_is_not_overwritten(tmp_path: Path) -> None:
    place = places.open_root(str(tmp_path))
    assert not arrays.add_document(Interrupted(place), "b.json", "ours")
    assert arrays.read_document(place, "b.json") == "theirs"


@pytest.mark.parametrize("leftover", ["b.json.__lock", "b.json_0123456789abcdef.__lock"])
def test_what_a_killed_writer_left_does_not_get_into_a_document(tmp_path: Path, leftover: str) -> None:
    (tmp_path / leftover).write_text("half of something long " * 100)
    place = places.open_root(str(tmp_path))
    arrays.write_document(place, "b.json", 1)
    assert (tmp_path / "b.json").read_text() == "1\n"
    assert arrays.names(place) == ["b.json"]


def test_a_full_disk(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    words = "did not take it: the disk is full, 12345 bytes are needed and [0-9]+ are free"
    root = str(tmp_path / "not" / "yet")
    with pytest.raises(StoreError, match=words) as caught, places.speaking_of(root, "did not take it", 12345):
        raise ValueError(NO_SPACE)
    assert abs(int(str(caught.value).split("and ")[1].split(" ")[0]) - free) < 2**30
    assert str(caught.value.__cause__) == NO_SPACE


def test_reasons_lose_what_only_tensorstore_understands() -> None:
    with pytest.raises(StoreError, match=r"^/x is odd: NOT_FOUND: gone$"), places.speaking_of("/x", "is odd"):
        raise ValueError("NOT_FOUND: gone [tensorstore_spec='{...}'] [source locations='...']")


def test_sweeping_is_for_local_files(tmp_path: Path) -> None:
    draft = tmp_path / "c" / "5" / "0_0123456789abcdef.__lock"
    draft.parent.mkdir(parents=True)
    draft.write_text("half")
    place = places.open_root(str(tmp_path))
    arrays.sweep(places.open_root("memory://m"), "c/5/**/*")
    arrays.sweep(place, "c/4/**/*", "c/*")
    assert draft.exists()
    arrays.sweep(place, "c/5/**/*")
    assert not draft.exists()


def test_small_arrays_replace_what_was_there(tmp_path: Path) -> None:
    place = places.open_root(str(tmp_path)) / "a/"
    for array in (np.arange(6.0).reshape(2, 3), np.arange(4, dtype=np.int16)):
        arrays.put_array(place, array)
        got = zarr.open_array(tmp_path / "a", mode="r")
        assert got.dtype == array.dtype
        np.testing.assert_array_equal(got[:], array)


def test_checksums_tell_contents_apart() -> None:
    values = np.arange(6, dtype=np.int8)
    contents: list[dict[str, NDArray[Any]]] = [
        {"a": values},
        {"b": values},
        {"a": values.reshape(2, 3)},
        {"a": values.view(np.uint8)},
        {"a": values[::-1]},
        {"a": values, "b": values},
    ]
    assert len({arrays.checksum(content) for content in contents}) == len(contents)
    assert arrays.checksum({"b": values, "a": values}) == arrays.checksum({"a": values, "b": values})


@pytest.mark.parametrize(("url", "driver"), [("gs://bucket/store", "gcs"), ("file:///tmp/store/", "file")])
def test_urls(url: str, driver: str) -> None:
    location = places.open_root(url).spec().to_json()
    assert location["driver"] == driver
    assert location["path"].endswith("store/")


def test_a_store_at_a_url(tmp_path: Path) -> None:
    spec = StoreSpec(
        "m", "w", "", "noise", "image", 0, (1,), (TapSpec("a", 2, 4),), {}, {}, "int8", 32, "i", num_rows=1, num_views=1
    )  # fmt: skip
    store = FeatureStore.open_or_create(f"file://{tmp_path}/store", spec)
    maps = np.ones((1, 1, 1, 1, 2, 4, 4), np.int8)
    store.write_shard(0, {"r04": maps}, np.zeros((1, 1, 3, 3), np.float32), attempt="1", seconds=0)
    zero = np.zeros(1, np.int64)
    np.testing.assert_array_equal(FeatureReader(FeatureStore.open(store.root)).read(zero, zero)["r04"], maps[:, 0])
    assert (tmp_path / "store" / "commits" / "00000.json").exists()
