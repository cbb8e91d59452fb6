"""The verb `extract`: Ray actors fill the feature store, one shard at a time.

Law: the bytes of the store don't depend on the number of actors, on kills or on the order of shards.
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from uldscale.config import Settings
from uldscale.data.index import ImageIndex
from uldscale.diffusion.backbone import Backbone
from uldscale.diffusion.codec import Quality
from uldscale.diffusion.extractor import Extractor, FeatureConfig
from uldscale.diffusion.noising import view_id
from uldscale.models.views import ViewConfig, render_views, view_matrices
from uldscale.runs import RunFolder
from uldscale.runtime import telemetry
from uldscale.runtime.cluster import RuntimeConfig, connect, device
from uldscale.runtime.pool import run_pool
from uldscale.runtime.progress import Progress
from uldscale.store.features import FeatureStore
from uldscale.store.spec import StoreConfig, StoreSpec, TapSpec

CODEC_FIT = -1
"""The item of work that fits the codec, before any shard."""


class ExtractConfig(Settings):
    """What is in the feature store."""

    features: FeatureConfig = FeatureConfig()
    views: ViewConfig = ViewConfig()
    store: StoreConfig = StoreConfig()


def store_root(config: ExtractConfig, run: RunFolder) -> str:
    """Where the store of a run is."""
    return config.store.root or run.store


def extract(
    config: ExtractConfig, index: ImageIndex, image_size: int, run: RunFolder, runtime: RuntimeConfig
) -> FeatureStore:
    """Fill the store with what it lacks. Raises StoreError for another run's store, IncompleteError when shards stay undone."""
    store = FeatureStore.open_or_create(store_root(config, run), _spec(config, index, image_size))
    worker = _Blueprint(config, store.root, run.index, image_size)
    if not store.has_codec and config.features.codec.kind != "none":
        connect(runtime)
        fitted = next(iter(run_pool(worker, [CODEC_FIT], runtime))).result
        _tell_quality(fitted.quality, run)
        store.write_codec(fitted.arrays)
    missing = store.missing_shards()
    if missing:
        connect(runtime)
        with Progress("extract", sum(len(store.rows_of(shard)) for shard in missing)) as progress:
            for number, done in enumerate(run_pool(worker, missing, runtime), start=1):
                images = len(store.rows_of(done.item))
                progress.advance(images)
                run.log(event="shard", shard=done.item, seconds=round(done.seconds, 3))
                telemetry.record("uldscale_images_extracted_total", images)
                telemetry.record("uldscale_shards_committed_total", 1)
                telemetry.record("uldscale_shards_missing", len(missing) - number)
                telemetry.record("uldscale_shard_seconds", done.seconds)
    store.require_complete()
    return store


def _tell_quality(quality: dict[str, Quality], run: RunFolder) -> None:
    for tap, kept in quality.items():
        run.log(event="codec", tap=tap, explained=round(kept.explained, 5), error=round(kept.error, 5))
    worst = max(quality, key=lambda tap: quality[tap].error)
    mean = sum(kept.error for kept in quality.values()) / len(quality)
    typer.echo(
        f"codec: loses {mean:.1%} of the features' variance on held-out images, most at {worst} ({quality[worst].error:.1%})"
    )


def _spec(config: ExtractConfig, index: ImageIndex, image_size: int) -> StoreSpec:
    backbone = Backbone.load(config.features.backbone, torch.device("cpu"))
    taps = Extractor(backbone, config.features).tap_specs(image_size)
    features = config.features
    return StoreSpec(
        model=backbone.name,
        weight_hash=backbone.weight_hash,
        prompt=features.backbone.prompt,
        mode=features.mode,
        noise=features.noise,
        seed=features.seed,
        timesteps=features.timesteps,
        taps=tuple(TapSpec(*tap) for tap in taps),
        views=config.views.model_dump(mode="json"),
        codec=features.codec.model_dump(mode="json"),
        dtype="float16" if features.codec.kind == "none" else "int8",
        image_size=image_size,
        index=index.fingerprint(),
        num_rows=len(index),
        num_views=config.views.count,
        rows_per_shard=config.store.rows_per_shard,
        shard_mib=config.store.shard_mib,
        batch=features.batch,
        precision=features.backbone.dtype,
    )


@dataclass(frozen=True)
class FittedCodec:
    """The arrays of a codec, and what it keeps of images that it was not fitted on, by tap."""

    arrays: dict[str, NDArray[Any]]
    quality: dict[str, Quality]


@dataclass(frozen=True)
class _Blueprint:
    """Builds a worker in the actor; small enough to send around."""

    config: ExtractConfig
    root: str
    index: str
    image_size: int

    def __call__(self) -> "ShardWorker":
        return ShardWorker(self.config, self.root, self.index, self.image_size)


@dataclass
class ShardWorker:
    """Computes shards; a plain object, which the pool wraps in an actor."""

    config: ExtractConfig
    root: str
    index_path: str
    image_size: int

    def setup(self) -> None:
        """Load the diffusion model and open the store."""
        self.extractor = Extractor(Backbone.load(self.config.features.backbone, device()), self.config.features)
        self.store = FeatureStore.open(self.root)
        self.index = ImageIndex.read(self.index_path)
        self.attempt = f"{time.time_ns():020d}"

    def process(self, item: int) -> "FittedCodec | None":
        """Fit the codec, or compute and write one shard."""
        if item == CODEC_FIT:
            return self._fit_codec()
        start = time.monotonic()
        features, matrices = self._shard(self.store.rows_of(item))
        self.store.write_shard(item, features, matrices, attempt=self.attempt, seconds=time.monotonic() - start)
        return None

    def _fit_codec(self) -> "FittedCodec":
        usable = np.random.default_rng(self.config.features.seed).permutation(self.index.rows("train"))
        # One image in nine is held out, and at least one.
        count = min(self.config.features.codec.sample, max(1, len(usable) * 8 // 9))
        sample, rest = usable[:count], usable[count : count + max(1, count // 8)]
        arrays = self.extractor.fit_codec(*self._crops(np.sort(sample)))
        return FittedCodec(arrays, self.extractor.quality(*self._crops(np.sort(rest if len(rest) else sample)), arrays))

    def _crops(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.uint8], list[str]]:
        crops = np.stack([self.index.load(int(row), self.image_size) for row in rows])
        return crops, [self.index.row(int(row)).id for row in rows]

    def _shard(self, rows: range) -> tuple[dict[str, NDArray[Any]], NDArray[np.float32]]:
        """Features of all views of the shard's images by resolution, and the view matrices; zeros for quarantined images."""
        spec, seed = self.store.spec, self.config.features.seed
        features = {name: np.zeros((len(rows), *spec.shape(name)[1:]), spec.dtype) for name in spec.resolutions}
        matrices = np.tile(np.eye(3, dtype=np.float32), (len(rows), spec.num_views, 1, 1))
        usable = [row for row in rows if self.index.row(row).status == "ok"]
        names, views = [], []
        for row in usable:
            image = self.index.row(row).id
            matrices[row - rows.start] = view_matrices(self.config.views, image, seed)
            crop = self.index.load(row, self.image_size)
            views.append(render_views(crop, matrices[row - rows.start], self.config.views, image, seed))
            names += [view_id(image, view) for view in range(spec.num_views)]
        if usable:
            encoded = self.extractor.encode(np.concatenate(views), names, self.store.read_codec())
            for name, maps in encoded.items():
                features[name][np.array(usable) - rows.start] = maps.reshape(
                    len(usable), spec.num_views, *maps.shape[1:]
                )
        return features, matrices
