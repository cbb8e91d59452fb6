"""One small store for all tests of this folder: its spec, its content, and how it is filled."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from uldscale.store.features import FeatureStore
from uldscale.store.spec import StoreSpec, TapSpec

Content = tuple[dict[str, NDArray[Any]], NDArray[np.float32]]


@pytest.fixture(scope="session")
def spec() -> StoreSpec:
    """7 images, 2 views, 2 timesteps, two resolutions, 3 shards; the last one has row 6 and two rows that don't exist."""
    return StoreSpec(
        model="tiny-ldm",
        weight_hash="abc",
        prompt="",
        mode="noise",
        noise="image",
        seed=0,
        timesteps=(1, 101),
        taps=(TapSpec("up.0", 4, 8), TapSpec("up.1", 4, 8), TapSpec("up.2", 3, 16)),
        views={"count": 2, "scale": (0.8, 1.25)},
        codec={"kind": "pca-int8", "channels": 4},
        dtype="int8",
        image_size=128,
        index="def",
        num_rows=7,
        num_views=2,
        rows_per_shard=3,
    )


@pytest.fixture(scope="session")
def codec() -> dict[str, NDArray[np.float32]]:
    """Arrays of a codec for the taps of `spec`."""
    return {
        f"up.{tap}/{name}": np.full(4 - tap // 2, tap + 1, np.float32)
        for tap in range(3)
        for name in ("mean", "scales")
    }


@pytest.fixture(scope="session")
def content() -> Callable[..., Content]:
    """(spec, shard, seed=0) -> features and view matrices; like those of an extractor they depend on the row alone."""

    def make(spec: StoreSpec, shard: int, seed: int = 0) -> Content:
        rows = spec.rows_of(shard)
        features = {name: np.stack([_maps(spec, name, row, seed) for row in rows]) for name in spec.resolutions}
        views = [np.random.default_rng([seed, row]).random((spec.num_views, 3, 3), np.float32) for row in rows]
        return features, np.stack(views)

    return make


def _maps(spec: StoreSpec, name: str, row: int, seed: int) -> NDArray[Any]:
    return np.random.default_rng([seed, row]).integers(-127, 128, spec.shape(name)[1:]).astype(spec.dtype)


@pytest.fixture(scope="session")
def write(content: Callable[..., Content]) -> Callable[..., None]:
    """(store, shard, seed=0, attempt="1", seconds=1.5): write a shard."""

    def write(store: FeatureStore, shard: int, *, seed: int = 0, attempt: str = "1", seconds: float = 1.5) -> None:
        store.write_shard(shard, *content(store.spec, shard, seed), attempt=attempt, seconds=seconds)

    return write


@pytest.fixture(scope="session")
def fill(write: Callable[..., None], codec: dict[str, NDArray[np.float32]]) -> Callable[..., FeatureStore]:
    """(root, spec, shards=all that are missing) -> store with a codec and these shards, and if it is whole, all views."""

    def fill(root: Path | str, spec: StoreSpec, shards: Iterable[int] | None = None) -> FeatureStore:
        store = FeatureStore.open_or_create(str(root), spec)
        store.write_codec(codec)
        for shard in store.missing_shards() if shards is None else shards:
            write(store, shard)
        if not store.missing_shards():
            store.views()
        return store

    return fill


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, fill: Callable[..., FeatureStore], spec: StoreSpec) -> Path:
    """A complete local store that no test changes."""
    root = tmp_path_factory.mktemp("whole") / "store"
    fill(root, spec)
    return root


@pytest.fixture(scope="session")
def tree() -> Callable[[Path], dict[str, bytes]]:
    """(root) -> all files of a store by path, but for attempts/, which two equal stores may have different."""

    def tree(root: Path) -> dict[str, bytes]:
        paths = [path for path in root.rglob("*") if path.is_file() and path.parent.name != "attempts"]
        return {str(path.relative_to(root)): path.read_bytes() for path in paths}

    return tree
