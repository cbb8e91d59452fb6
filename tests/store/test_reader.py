"""Random reading: the right samples, many at a time, and never zeros for what is not there."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore as ts
import torch
import zarr
from numpy.typing import NDArray

from uldscale.errors import IncompleteError, StoreError
from uldscale.store import shards
from uldscale.store.features import FeatureStore
from uldscale.store.reader import FeatureReader, RecycledMemory
from uldscale.store.spec import StoreSpec

Fill = Callable[..., FeatureStore]


@pytest.fixture(scope="module")
def spec(spec: StoreSpec) -> StoreSpec:
    """22 images, 3 views, 3 shards of which the last one has two rows that don't exist."""
    return replace(spec, num_rows=22, num_views=3, rows_per_shard=8)


@pytest.fixture(scope="module", params=["int8", "float16"])
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, fill: Fill, spec: StoreSpec
) -> FeatureStore:
    return fill(tmp_path_factory.mktemp(request.param), replace(spec, dtype=request.param), [0, 1, 2])


@pytest.fixture
def unfinished(tmp_path: Path, fill: Fill, spec: StoreSpec) -> FeatureStore:
    """A store that lacks shard 1, rows 8 to 15."""
    return fill(tmp_path, spec, [0, 2])


def requests(count: int, batch: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    random = np.random.default_rng(0)
    return [(random.integers(22, size=batch), random.integers(3, size=batch)) for _ in range(count)]


def assert_equal(maps: dict[str, NDArray[Any]], wanted: dict[str, NDArray[Any]]) -> None:
    assert maps.keys() == wanted.keys()
    for name, values in maps.items():
        np.testing.assert_array_equal(values, wanted[name])


def by_zarr(store: FeatureStore, rows: NDArray[np.int64], views: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    return {
        name: np.stack(
            [
                zarr.open_array(f"{store.root}/{name}", mode="r")[row, view]
                for row, view in zip(rows, views, strict=True)
            ]
        )
        for name in store.spec.resolutions
    }


def test_it_reads_what_zarr_python_reads(store: FeatureStore) -> None:
    reader = FeatureReader(store)
    for rows, views in requests(5, 9):
        assert_equal(reader.read(rows, views), by_zarr(store, rows, views))


def test_batches_are_ready_for_torch(store: FeatureStore) -> None:
    maps = FeatureReader(store).read(np.array([21, 0, 21]), np.array([0, 2, 0]))
    assert maps["r08"].shape == (3, 2, 2, 4, 8, 8)
    assert maps["r16"].shape == (3, 2, 1, 3, 16, 16)
    for values in maps.values():
        assert values.dtype == store.spec.dtype
        assert values.flags.c_contiguous
        assert values.flags.writeable


def test_an_empty_batch(store: FeatureStore) -> None:
    nothing = np.zeros(0, np.int64)
    assert FeatureReader(store).read(nothing, nothing)["r08"].shape == (0, 2, 2, 4, 8, 8)


@pytest.mark.parametrize("depth", [0, 1, 2, 100])
def test_prefetching_keeps_order_and_works_ahead(store: FeatureStore, depth: int) -> None:
    reader, asked, issued = FeatureReader(store), requests(6, 4), []

    def counted() -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        for request in asked:
            issued.append(request)
            yield request

    for done, maps in enumerate(reader.prefetch(counted(), depth), start=1):
        assert len(issued) == min(done + depth, len(asked))
        assert_equal(maps, reader.read(*asked[done - 1]))
    assert done == len(asked)


@pytest.mark.parametrize("view", [0, 1])
def test_parts_are_all_rows_in_order(store: FeatureStore, view: int) -> None:
    reader, rows = FeatureReader(store), np.array([5, 0, 3, 9, 2])
    parts = list(reader.in_parts(rows, 2, view))
    assert [part.tolist() for part, _ in parts] == [[5, 0], [3, 9], [2]]
    for part, maps in parts:
        assert_equal(maps, reader.read(part, np.full_like(part, view)))
    assert list(reader.in_parts(rows[:0], 2)) == []


@pytest.mark.parametrize(
    "keep", [lambda maps: maps[1:], lambda maps: torch.from_numpy(maps)[1:]], ids=["view", "tensor"]
)
def test_no_batch_is_overwritten_while_something_refers_to_it(store: FeatureStore, keep: Callable[[Any], Any]) -> None:
    reader, asked = FeatureReader(store), requests(12, 4)
    kept = [keep(maps["r16"]) for maps in reader.prefetch(asked)]
    for values, request in zip(kept, asked, strict=True):
        np.testing.assert_array_equal(np.asarray(values), by_zarr(store, *request)["r16"][1:])


def test_a_batch_that_nobody_waits_for_harms_no_other(store: FeatureStore) -> None:
    reader, asked = FeatureReader(store), requests(12, 9)
    for abandoned, request in zip(asked, reversed(asked), strict=True):
        next(reader.prefetch([abandoned] * 4, depth=3))
        assert_equal(reader.read(*request), by_zarr(store, *request))


def test_memory_comes_back_when_nothing_refers_to_it() -> None:
    memory, dtype = RecycledMemory(), np.dtype("float16")
    array = memory((3, 5), dtype)
    address, view = array.ctypes.data, array[1:].T
    del array
    other = memory((3, 5), dtype)
    assert other.ctypes.data != address
    del view
    assert memory((5, 3), dtype).ctypes.data == address


def test_the_caller_may_give_the_memory(store: FeatureStore) -> None:
    given: list[NDArray[Any]] = []

    def allocate(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        given.append(np.full(shape, 99, dtype))
        return given[-1]

    (request,) = requests(1, 9)
    maps = FeatureReader(store, allocate).read(*request)
    assert [id(values) for values in maps.values()] == [id(values) for values in given]
    assert_equal(maps, by_zarr(store, *request))


@pytest.fixture
def traffic(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of every read of a file, from now on."""
    sizes: list[int] = []
    preadv = os.preadv

    def counted(file: int, buffers: list[Any], offset: int) -> int:
        sizes.append(preadv(file, buffers, offset))
        return sizes[-1]

    monkeypatch.setattr(os, "preadv", counted)
    return sizes


def test_the_index_of_a_shard_is_read_once(store: FeatureStore, traffic: list[int]) -> None:
    reader, zero = FeatureReader(store), np.zeros(1, np.int64)
    reader.read(zero, zero)
    traffic.clear()
    reader.read(zero + 5, zero)
    assert len(traffic) == len(store.spec.resolutions)


def test_a_lookup_reads_as_much_of_a_million_rows_as_of_a_few(
    tmp_path: Path, fill: Fill, spec: StoreSpec, traffic: list[int]
) -> None:
    costs = []
    for rows in (22, 1_000_000):
        whole = replace(spec, num_rows=rows)
        reader = FeatureReader(fill(tmp_path / str(rows), whole, [0, 1, whole.num_shards - 1]))
        traffic.clear()
        for row in (0, 5, rows - 1, 9):
            reader.read(np.array([row]), np.ones(1, np.int64))
        costs.append(list(traffic))
    assert costs[0] == costs[1]
    assert len(costs[0]) == (4 + 3) * len(spec.resolutions)


def test_many_more_shards_than_files_may_be_open(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch, traffic: list[int]
) -> None:
    """Files are closed when nothing reads them any more, and opened again."""
    monkeypatch.setattr(shards, "_OPEN_FILES", 1)
    before = len(os.listdir("/proc/self/fd"))
    reader = FeatureReader(store)
    for request in requests(5, 9):
        assert_equal(reader.read(*request), by_zarr(store, *request))
    assert len(os.listdir("/proc/self/fd")) <= before + len(store.spec.resolutions)


def test_an_array_that_cannot_be_read_is_not_called_damaged(unfinished: FeatureStore) -> None:
    path = Path(unfinished.root) / "r16/c.2.0.0.0.0.0.0"
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(StoreError, match="cannot be read: .*symbolic links"):
        FeatureReader(unfinished).read(np.array([16]), np.zeros(1, np.int64))


@pytest.mark.parametrize("writer", ["zarr-python", "TensorStore"])
def test_chunks_may_lie_in_any_order_or_be_missing(unfinished: FeatureStore, writer: str) -> None:
    """The index tells where they are."""
    path = Path(unfinished.root) / "r16/c.0.0.0.0.0.0.0"
    path.unlink()
    values = np.random.default_rng(3).integers(1, 100, (8, *unfinished.spec.shape("r16")[1:]), np.int8)
    if writer == "zarr-python":
        zarr.open_array(path.parent, mode="r+")[1:8] = values[1:]
    else:
        kvstore = {"driver": "file", "path": str(path.parent)}
        array = ts.open({"driver": "zarr3", "kvstore": kvstore}, open=True).result()
        for row in (5, 1, 2, 3, 4, 6, 7):
            array[row] = values[row]
    reader, zeros = FeatureReader(unfinished), np.zeros(7, np.int64)
    np.testing.assert_array_equal(reader.read(np.arange(1, 8), zeros)["r16"], values[1:, 0])
    with pytest.raises(StoreError, match="lacks chunk 0"):
        reader.read(np.zeros(1, np.int64), zeros[:1])


def test_rows_that_are_not_extracted_are_an_error(unfinished: FeatureStore) -> None:
    reader, views = FeatureReader(unfinished), np.zeros(2, np.int64)
    reader.read(np.array([7, 16]), views)
    with pytest.raises(IncompleteError, match=r"shards \[1\] are not extracted yet; run the same job again"):
        reader.read(np.array([7, 8]), views)
    with pytest.raises(IncompleteError):
        next(reader.prefetch([(np.array([15, 0]), views)]))


@pytest.mark.parametrize(("row", "view"), [(22, 0), (-1, 0), (0, 3), (0, -1)])
def test_there_are_no_other_rows_and_views(unfinished: FeatureStore, row: int, view: int) -> None:
    """Row 22 is padding: it is on disk, but it is no image."""
    with pytest.raises(IndexError):
        FeatureReader(unfinished).read(np.array([row]), np.array([view]))


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_damage_is_an_error_and_hurts_no_other_shard(unfinished: FeatureStore, damage: str) -> None:
    path = Path(unfinished.root) / "r16/c.2.0.0.0.0.0.0"
    data = bytearray(path.read_bytes())
    data[5] ^= 1
    path.write_bytes(data if damage == "flipped" else data[:-1])
    if damage == "gone":
        path.unlink()
    reader, zero = FeatureReader(unfinished), np.zeros(1, np.int64)
    reader.read(zero, zero)
    with pytest.raises(StoreError, match="is damaged; run store verify --repair"):
        reader.read(zero + 16, zero)


def test_a_store_that_went_away(unfinished: FeatureStore) -> None:
    (Path(unfinished.root) / "r08" / "zarr.json").unlink()
    with pytest.raises(StoreError, match="cannot be read"):
        FeatureReader(unfinished)
