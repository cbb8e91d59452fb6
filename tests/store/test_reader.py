"""Random reading: the right samples, many at a time, and never zeros for what is not there."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore as ts
import zarr
from numpy.typing import NDArray

from uldscale.errors import IncompleteError, StoreError
from uldscale.store.features import FeatureStore
from uldscale.store.reader import FeatureReader
from uldscale.store.spec import StoreSpec, TapSpec

SPEC = StoreSpec(
    model="tiny-ldm",
    weight_hash="abc",
    prompt="",
    mode="noise",
    noise="image",
    seed=0,
    timesteps=(1, 101),
    taps=(TapSpec("up.0", 4, 8), TapSpec("up.1", 4, 8), TapSpec("up.2", 3, 16)),
    views={},
    codec={},
    dtype="int8",
    image_size=128,
    index="def",
    num_rows=22,
    num_views=3,
    rows_per_shard=8,
)
UNFINISHED = 1


def fill(root: Path, spec: StoreSpec, shards: list[int]) -> FeatureStore:
    store = FeatureStore.open_or_create(str(root), spec)
    for shard in shards:
        count, random = len(store.rows_of(shard)), np.random.default_rng(shard)
        maps = {
            name: random.integers(-127, 128, (count, *spec.shape(name)[1:])).astype(spec.dtype)
            for name in spec.resolutions
        }
        store.write_shard(shard, maps, np.zeros((count, spec.num_views, 3, 3), np.float32), attempt="1", seconds=0)
    return store


@pytest.fixture(scope="module", params=["int8", "float16"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    spec = replace(SPEC, dtype=request.param)
    return fill(tmp_path_factory.mktemp(request.param), spec, [0, 1, 2])


@pytest.fixture
def unfinished(tmp_path: Path) -> FeatureStore:
    """A store that lacks shard 1, rows 8 to 15."""
    return fill(tmp_path, SPEC, [0, 2])


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


def test_the_index_of_a_shard_is_read_once(store: FeatureStore) -> None:
    reader, zero = FeatureReader(store), np.zeros(1, np.int64)
    reader.read(zero, zero)
    before = reads()
    reader.read(zero + 5, zero)
    assert reads() - before == len(store.spec.resolutions)


def reads() -> int:
    (metric,) = ts.experimental_collect_matching_metrics("/tensorstore/kvstore/file/batch_read")
    return int(metric["values"][0]["value"])


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
    path = Path(unfinished.root) / "r16/c/2/0/0/0/0/0/0"
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
