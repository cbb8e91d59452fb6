"""The verb `extract`: Ray actors fit the codec on a sample of images, then fill the feature store, one shard at a time.

Law: the bytes of the store don't depend on the number of actors, on kills or on the order of shards.
"""

import time
from collections.abc import Mapping, Sequence

import numpy as np
import typer
from numpy.typing import NDArray

from uldscale.data.index import ImageIndex
from uldscale.diffusion import codec as codecs
from uldscale.diffusion import positions
from uldscale.diffusion.backbone import Backbone
from uldscale.diffusion.codec import Quality
from uldscale.diffusion.extractor import Extractor, FeatureConfig
from uldscale.runs import RunFolder
from uldscale.runtime import telemetry
from uldscale.runtime.alone import Alone, pool
from uldscale.runtime.pool import Finished, Pool
from uldscale.runtime.progress import Progress
from uldscale.runtime.roles import RuntimeConfig
from uldscale.stages.shard_worker import Blueprint, CodecSample, ExtractConfig, PlaceSample, ShardDone
from uldscale.store.features import FeatureStore
from uldscale.store.spec import StoreSpec, TapSpec

Samples = dict[str, NDArray[np.floating]]

CODEC_PIXELS = 16_384
"""Pixels per tap that the codec is fitted on: ten times the 1280 channels of the widest taps of SD."""
CODEC_CHUNK = 16
"""Images of the codec's sample that an actor takes at a time."""
HELD_OUT = 1 / 9
"""Share of the sampled images that the codec is measured on and not fitted on."""


def store_root(config: ExtractConfig, run: RunFolder) -> str:
    """Where the store of a run is."""
    return config.store.root or run.store


def require_features(features: FeatureConfig, image_size: int) -> None:
    """That the model can give these features of such images, told before an image is read. Raises ConfigError or ModelError."""
    Extractor(Backbone.outline(features.backbone, weights=False), features).tap_specs(image_size)


def extract(
    config: ExtractConfig, index: ImageIndex, image_size: int, run: RunFolder, runtime: RuntimeConfig
) -> FeatureStore:
    """Fill the store with what it lacks. Raises StoreError for another run's store, IncompleteError when shards stay undone."""
    outline = Backbone.outline(config.features.backbone)
    spec = store_spec(config, outline, image_size, num_rows=len(index), index=index.fingerprint())
    store = FeatureStore.open_or_create(store_root(config, run), spec, runtime.cache)
    lacks_codec = config.features.codec.kind != "none" and not store.has_codec
    missing = store.missing_shards()
    if lacks_codec or missing:
        role = runtime.extract
        blueprint = Blueprint(config, store.root, run.index, image_size, role.gpus, readers=max(1, round(role.cpus)))
        with pool(blueprint, "extract", runtime) as workers:
            if lacks_codec:
                store.write_codec(_fit_codec(workers, config.features, index, run))
            _fill(workers, store, missing, config.features.batch, run)
    # Whoever needs all view matrices then finds them in one object.
    store.views()
    return store


def _fill(workers: Pool | Alone, store: FeatureStore, missing: list[int], batch: int, run: RunFolder) -> None:
    telemetry.record("uldscale_shards_missing", len(missing))
    left = sum(len(store.rows_of(shard)) for shard in missing)
    total = store.spec.num_rows
    with Progress("extract", total, run.progress, done=total - left) as progress:
        for number, done in enumerate(workers.run(missing), start=1):
            images = len(store.rows_of(done.item))
            progress.advance(images)
            _tell_shard(done, images, len(missing) - number, run)
            if done.result.batch < batch:
                _tell_batch(done.result.batch, batch)
                batch = done.result.batch


def _tell_shard(done: Finished, images: int, missing: int, run: RunFolder) -> None:
    result: ShardDone = done.result
    run.log(event="shard", shard=done.item, seconds=round(done.seconds, 3), compute=round(result.seconds["model"], 3))
    telemetry.record("uldscale_images_extracted_total", images)
    telemetry.record("uldscale_shards_committed_total", 1)
    telemetry.record("uldscale_shards_missing", missing)
    telemetry.record("uldscale_shard_seconds", done.seconds)
    telemetry.record("uldscale_extract_written_bytes_total", result.written_bytes)
    for part, seconds in result.seconds.items():
        telemetry.record("uldscale_extract_seconds_total", seconds, part=part)


def _tell_batch(batch: int, wanted: int) -> None:
    telemetry.record("uldscale_batches_halved_total", 1)
    typer.echo(
        f"extract: memory was short, calls of the model now hold {batch} maps instead of {wanted}; set "
        f"extract.features.batch={batch} in a new run to have the same last bits in all shards",
        err=True,
    )


def _fit_codec(
    workers: Pool | Alone, config: FeatureConfig, index: ImageIndex, run: RunFolder
) -> dict[str, NDArray[np.float32]]:
    """The codec and its quality, from pixels that all actors sampled; equal for any number of them."""
    start = time.monotonic()
    fitted, held_out = _sample_rows(config, index)
    per_map = -(-CODEC_PIXELS // (len(fitted) * len(config.timesteps)))
    fit_on, measure_on = ([CodecSample(rows, per_map) for rows in _chunks(sample)] for sample in (fitted, held_out))
    places = [PlaceSample(rows) for rows in _chunks(fitted)] if config.codec.position == "remove" else []
    found = _sampled(workers, [*fit_on, *measure_on, *places], run)
    without = _directions([found[item] for item in places])
    samples, held = (_joined([found[item] for item in sample]) for sample in (fit_on, measure_on))
    arrays = codecs.fit_all(samples, config.codec.channels, without)
    quality = codecs.quality_all(arrays, held, config.codec.dtype)
    _tell_quality(quality, "images of its fit" if np.isin(held_out, fitted).all() else "held-out images", run)
    run.log(event="codec_fit", images=len(fitted), seconds=round(time.monotonic() - start, 3))
    return {**arrays, **codecs.pack_quality(quality)}


def _sampled(
    workers: Pool | Alone, items: Sequence[CodecSample | PlaceSample], run: RunFolder
) -> dict[CodecSample | PlaceSample, Samples]:
    """What the actors found, by item; an item may be there twice."""
    found: dict[CodecSample | PlaceSample, Samples] = {}
    wanted = list(dict.fromkeys(items))
    with Progress("codec", sum(len(item.rows) for item in wanted), run.progress) as progress:
        for done in workers.run(wanted):
            found[done.item] = done.result
            progress.advance(len(done.item.rows))
    return found


def _sample_rows(config: FeatureConfig, index: ImageIndex) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Training images to fit the codec on, and others, or for want of others the same, to measure it on."""
    usable = np.random.default_rng(config.seed).permutation(index.rows("train"))
    count = min(config.codec.sample, max(1, round(len(usable) * (1 - HELD_OUT))))
    rest = usable[count : count + max(1, round(count * HELD_OUT))]
    return np.sort(usable[:count]), np.sort(rest if len(rest) else usable[:count])


def _chunks(rows: NDArray[np.int64]) -> list[tuple[int, ...]]:
    return [tuple(rows[start : start + CODEC_CHUNK].tolist()) for start in range(0, len(rows), CODEC_CHUNK)]


def _joined(samples: list[Samples]) -> Mapping[str, NDArray[np.floating]]:
    return {tap: np.concatenate([sample[tap] for sample in samples]) for tap in samples[0]}


def _directions(moments: list[Samples]) -> dict[str, NDArray[np.float64]] | None:
    """The positional subspace by tap, where it was asked for."""
    if not moments:
        return None
    return {tap: positions.directions(np.sum([part[tap] for part in moments], axis=0)) for tap in moments[0]}


def _tell_quality(quality: dict[str, Quality], measured_on: str, run: RunFolder) -> None:
    for tap, kept in quality.items():
        telemetry.record("uldscale_codec_error_ratio", kept.error, tap=tap)
        run.log(event="codec", tap=tap, explained=round(kept.explained, 5), error=round(kept.error, 5))
    worst = max(quality, key=lambda tap: quality[tap].error)
    explained, error = np.mean(list(quality.values()), axis=0)
    typer.echo(
        f"codec: its channels explain {explained:.1%} of the features' variance on {measured_on}; in all it loses {error:.1%}, "
        f"most at {worst} ({quality[worst].error:.1%})"
    )


def store_spec(config: ExtractConfig, outline: Backbone, image_size: int, *, num_rows: int, index: str) -> StoreSpec:
    """The store of these settings with a model from Backbone.outline. Raises ConfigError when the model cannot give it."""
    features = config.features
    taps = Extractor(outline, features).tap_specs(image_size)
    return StoreSpec(
        model=outline.name,
        weight_hash=outline.weight_hash,
        prompt=features.backbone.prompt,
        mode=features.mode,
        noise=features.noise,
        seed=features.seed,
        timesteps=features.timesteps,
        taps=tuple(TapSpec(*tap) for tap in taps),
        views=config.views.model_dump(mode="json"),
        codec=features.codec.identity,
        dtype=features.codec.dtype,
        image_size=image_size,
        index=index,
        num_rows=num_rows,
        num_views=config.views.count,
        rows_per_shard=config.store.rows_per_shard,
        shard_mib=config.store.shard_mib,
        batch=features.batch,
        precision=features.backbone.dtype + (" compiled" if features.compile else ""),
    )
