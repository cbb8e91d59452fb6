"""The worker of the verb `extract`: samples pixels for the codec, then computes shards and writes them.

It is a plain object, which the pool wraps in an actor and calls from several threads: while one shard is computed, the
images of the next are read and the last one is written.
"""

import platform
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uldscale.config import Settings
from uldscale.data.index import ImageIndex
from uldscale.diffusion.backbone import Backbone
from uldscale.diffusion.extractor import Extractor, FeatureConfig
from uldscale.diffusion.modes import sent
from uldscale.diffusion.noising import view_id
from uldscale.errors import ModelError
from uldscale.models.rendering import render_views
from uldscale.models.views import ViewConfig, view_matrices
from uldscale.runtime.cluster import device
from uldscale.runtime.seconds import Seconds
from uldscale.store.features import FeatureStore
from uldscale.store.spec import StoreConfig, StoreSpec


class ExtractConfig(Settings):
    """What is in the feature store."""

    features: FeatureConfig = FeatureConfig()
    views: ViewConfig = ViewConfig()
    store: StoreConfig = StoreConfig()


@dataclass(frozen=True)
class CodecSample:
    """An item of work: some images, of whose maps pixels are taken for the codec."""

    rows: tuple[int, ...]
    pixels: int
    """Of each map."""


@dataclass(frozen=True)
class PlaceSample:
    """An item of work: some images, of whose maps it is asked how they go along with places."""

    rows: tuple[int, ...]


@dataclass(frozen=True)
class ShardDone:
    """What a worker tells about a shard that it wrote."""

    seconds: dict[str, float]
    """By part: decode, views and model (with the codec), both on its device, write, and idle: the model's since the shard before."""
    written_bytes: int
    batch: int
    """Of the calls of the model: less than asked for when memory was short."""


@dataclass(frozen=True)
class Blueprint:
    """Builds a worker in the actor; small enough to send around."""

    config: ExtractConfig
    root: str
    index: str
    image_size: int
    gpus: float
    """Of the process in which it is built."""
    readers: int
    """Images that are read and decoded side by side."""

    def __call__(self) -> "ShardWorker":
        return ShardWorker(self)


class ShardWorker:
    """Works on shard numbers and on samples for the codec."""

    def __init__(self, blueprint: Blueprint) -> None:
        self._blueprint = blueprint
        self._config = blueprint.config
        # One thread computes: each that did would keep a team of OpenMP threads of its own, which spin when they are idle.
        self._model = ThreadPoolExecutor(1)
        self._readers = ThreadPoolExecutor(blueprint.readers)
        self._idle_since: float | None = None

    def setup(self) -> None:
        """Load the diffusion model and open the store. Raises ModelError for other weights than those of the store."""
        features = self._config.features
        self._store = FeatureStore.open(self._blueprint.root)
        backbone = Backbone.load(features.backbone, device(self._blueprint.gpus))
        _require_weights(backbone, self._store.spec)
        self._extractor = Extractor(backbone, features)
        self._index = ImageIndex.read(self._blueprint.index)

    def process(self, item: int | CodecSample | PlaceSample) -> ShardDone | dict[str, NDArray[Any]]:
        """Write one shard, or return sampled pixels (n, Cin) or moments (COUNT, Cin) by tap."""
        return self._sample(item) if isinstance(item, CodecSample | PlaceSample) else self._write(item)

    def _sample(self, item: CodecSample | PlaceSample) -> dict[str, NDArray[Any]]:
        crops = self._crops(item.rows)
        names = [self._index.row(row).id for row in item.rows]
        if isinstance(item, PlaceSample):
            return self._model.submit(self._extractor.moments, crops, names).result()
        return self._model.submit(self._extractor.sample, crops, names, item.pixels).result()

    def _write(self, shard: int) -> ShardDone:
        # Of this shard and not of this worker: one that was ready earlier may well do a shard again later.
        start, seconds, attempt = time.monotonic(), Seconds(), f"{time.time_ns():020d}"
        rows = self._store.rows_of(shard)
        usable = {row: found.id for row in rows if (found := self._index.row(row)).status == "ok"}
        with seconds.of("decode"):
            crops = self._crops(tuple(usable))
        matrices = np.tile(np.eye(3, dtype=np.float32), (len(rows), self._store.spec.num_views, 1, 1))
        for row, image in usable.items():
            matrices[row - rows.start] = view_matrices(self._config.views, image, self._config.features.seed)
        features = self._model.submit(self._compute, rows, usable, crops, matrices, seconds).result()
        size = sum(maps.nbytes for maps in features.values())
        with seconds.of("write"):
            self._store.write_shard(shard, features, matrices, attempt=attempt, seconds=time.monotonic() - start)
        return ShardDone(seconds.take(), size, self._extractor.batch)

    def _crops(self, rows: tuple[int, ...]) -> NDArray[np.uint8]:
        """(n, S, S, 3)"""
        size = self._blueprint.image_size
        crops = list(self._readers.map(lambda row: self._index.load(row, size), rows))
        return np.stack(crops) if crops else np.zeros((0, size, size, 3), np.uint8)

    def _compute(
        self,
        rows: range,
        usable: dict[int, str],
        crops: NDArray[np.uint8],
        matrices: NDArray[np.float32],
        seconds: Seconds,
    ) -> dict[str, NDArray[Any]]:
        """Features of the shard by resolution, from the ids and crops of its usable rows; zeros for quarantined images."""
        seconds.book("idle", 0.0 if self._idle_since is None else time.monotonic() - self._idle_since)
        with seconds.of("views"):
            views = self._views(usable, crops, matrices[np.array(list(usable), int) - rows.start])
        with seconds.of("model"):
            features = self._features(rows, usable, views)
        self._idle_since = time.monotonic()
        return features

    def _views(self, usable: dict[int, str], crops: NDArray[np.uint8], matrices: NDArray[np.float32]) -> Tensor:
        """All views (n V, S, S, 3) of some images, on the device of the model."""
        config, seed = self._config.views, self._config.features.seed
        images = sent(torch.from_numpy(crops), self._extractor.backbone.device)
        views = images.new_empty(len(crops), config.count, *images.shape[1:])
        for number, image in enumerate(usable.values()):
            views[number] = render_views(images[number], matrices[number], config, image, seed)
        return views.flatten(0, 1)

    def _features(self, rows: range, usable: dict[int, str], views: Tensor) -> dict[str, NDArray[Any]]:
        spec = self._store.spec
        names = [view_id(image, view) for image in usable.values() for view in range(spec.num_views)]
        encoded = self._extractor.encode(views, names, self._codec) if usable else {}
        found = {name: maps.reshape(len(usable), spec.num_views, *maps.shape[1:]) for name, maps in encoded.items()}
        if len(usable) == len(rows):
            return found
        whole = {name: np.zeros((len(rows), *spec.shape(name)[1:]), spec.dtype) for name in spec.resolutions}
        for name, maps in found.items():
            whole[name][np.array(list(usable)) - rows.start] = maps
        return whole

    @cached_property
    def _codec(self) -> dict[str, NDArray[Any]]:
        """Read with the first shard: when the actor starts there may be none yet."""
        return self._store.read_codec()


def _require_weights(backbone: Backbone, spec: StoreSpec) -> None:
    """Every machine finds the model by itself: its folder may hold another one, and a branch of the hub may have moved."""
    if backbone.weight_hash != spec.weight_hash:
        raise ModelError(
            f"{backbone.name} on {platform.node()} has weights {backbone.weight_hash[:12]}, but the store was made with "
            f"{spec.weight_hash[:12]}; give all machines the same model folder, or pin extract.features.backbone.revision"
        )
