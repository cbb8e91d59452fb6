"""What does making features small cost in landmark error?

    python benchmarks/codec_cost.py jobs/faces68.yaml [data.limit=200 ...]

The features of a job's images, as they are and without moved views, are extracted once with all channels in float16. Each
codec is then fitted on pixels of a sample of them and fills a store of its own, on which the ZeroShot baseline finds its
landmarks; these are measured against the annotations. Three seeds of ZeroShot each, since k-means moves an NME by more
than most codecs do. The stores lie in the folder for temporary files (TMPDIR), two at a time; overrides of the job make
it smaller. Prints one JSON line: by codec bytes of an image, variance that its channels explain and that is lost in all
on held-out images (mean over taps), forward and backward NME (mean and standard deviation over seeds).
"""

import argparse
import json
import sys
import tempfile
from contextlib import redirect_stdout
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from uldscale.data.index import ImageIndex
from uldscale.diffusion import codec as codecs
from uldscale.diffusion.codec import Arrays, CodecConfig
from uldscale.evaluation import nme
from uldscale.job import Job, load_job
from uldscale.pipeline import Pipeline
from uldscale.runtime.alone import Alone
from uldscale.runtime.progress import Progress
from uldscale.stages.extract import CODEC_PIXELS, HELD_OUT
from uldscale.stages.seeking import seek
from uldscale.stages.truth import Truth
from uldscale.stages.zero_shot import Finder
from uldscale.store.features import FeatureStore
from uldscale.store.reader import FeatureReader

CODECS = {
    **{
        f"pca-{channels}-{kind}": CodecConfig.model_validate({"kind": f"pca-{kind}", "channels": channels})
        for channels in (8, 16, 32, 64)
        for kind in ("int8", "fp16")
    },
    "none": CodecConfig(kind="none"),
}
SEEDS = (0, 1, 2)

Pixels = dict[str, NDArray[np.float16]]


def extracted(job: Job, folder: str) -> tuple[FeatureStore, ImageIndex]:
    """Features with all channels, one view of each image."""
    settings = job.model_dump(mode="json") | {"output": folder}
    settings["extract"]["features"]["codec"]["kind"] = "none"
    settings["extract"]["views"]["count"] = 1
    settings["extract"]["store"]["root"] = None
    pipeline = Pipeline(Job.model_validate(settings))
    return pipeline.extract(), pipeline.index()


def samples(job: Job, store: FeatureStore, index: ImageIndex) -> tuple[Pixels, Pixels]:
    """Pixels of training images to fit codecs on, and of others to measure them on."""
    config = job.extract.features
    rows = np.random.default_rng(config.seed).permutation(index.rows("train"))
    count = min(config.codec.sample, round(len(rows) * (1 - HELD_OUT)))
    return pixels(store, rows[:count]), pixels(store, rows[count : count + max(1, round(count * HELD_OUT))])


def pixels(store: FeatureStore, rows: NDArray[np.int64]) -> Pixels:
    """Random pixels (n, Cin) of some images by tap, all timesteps together."""
    maps, random = FeatureReader(store).read(rows, np.zeros_like(rows)), np.random.default_rng(0)
    found = {}
    for name, taps in store.spec.resolutions.items():
        for number, tap in enumerate(taps):
            cells = np.moveaxis(maps[name][:, :, number], 2, -1).reshape(-1, tap.channels)
            found[tap.name] = cells[random.permutation(len(cells))[:CODEC_PIXELS]]
    return found


def encoded(raw: FeatureStore, config: CodecConfig, arrays: Arrays, folder: str) -> FeatureStore:
    """A store of the same features in another codec."""
    taps = tuple(replace(tap, channels=min(tap.channels, config.channels)) for tap in raw.spec.taps)
    settings = config.model_dump(mode="json")
    spec = replace(raw.spec, taps=taps, codec=settings, dtype=config.dtype, rows_per_shard=raw.spec.shard_rows)
    store, reader = FeatureStore.open_or_create(folder, spec), FeatureReader(raw)
    store.write_codec(arrays)
    for shard in store.missing_shards():
        rows = np.array(store.rows_of(shard))
        maps = reader.read(rows, np.zeros_like(rows))
        features = {
            name: np.stack([codes(arrays, tap.name, maps[name][:, :, i], config) for i, tap in enumerate(group)], 2)
            for name, group in spec.resolutions.items()
        }
        views = np.tile(np.eye(3, dtype=np.float32), (len(rows), 1, 1, 1))
        whole = {name: values[:, None] for name, values in features.items()}
        store.write_shard(shard, whole, views, attempt="0", seconds=0.0)
    return store


def codes(arrays: Arrays, tap: str, maps: NDArray[np.float16], config: CodecConfig) -> NDArray[Any]:
    """(B, T, Cin, H, W) -> (B, T, C, H, W)"""
    return codecs.unpack(arrays, tap).encode(torch.from_numpy(maps), config.dtype).numpy()


def measure(job: Job, index: ImageIndex, store: FeatureStore) -> dict[str, Any]:
    """Errors of ZeroShot on a store."""
    truth = Truth.of(index)
    assert truth is not None, "the job has no annotated test images"
    landmarks = job.train.clusters.landmarks
    protocol, rows, errors = truth.protocols(None)[0], index.rows(), []
    for seed in SEEDS:
        points = np.full((len(index), landmarks, 2), np.nan, np.float32)
        finder = Finder.of(job.zero_shot.updated(seed=seed), landmarks, index, store, job.data.roi.border)
        with (
            Alone(finder, None) as alone,
            Progress(f"zero_shot {seed}", len(rows)) as progress,
            tempfile.TemporaryDirectory() as parts,
        ):
            (points[rows],) = seek(alone, parts, rows, 0, ("points",), progress)
        errors.append(nme.evaluate(*truth.split(points * truth.scale), protocol, 0))
    return {
        "bytes_per_image": store.spec.row_bytes,
        "protocol": protocol.name,
        "forward": spread([error.forward for error in errors]),
        "backward": spread([error.backward for error in errors]),
    }


def spread(values: list[float]) -> list[float]:
    return [round(float(np.mean(values)), 2), round(float(np.std(values, ddof=1)), 2)]


def compare(job: Job, folder: str) -> dict[str, dict[str, Any]]:
    raw, index = extracted(job, folder)
    fitted, held_out = samples(job, raw, index)
    result = {}
    for name, config in CODECS.items():
        if config.kind == "none":
            result[name] = {**measure(job, index, raw), "explained": 1.0, "lost": 0.0}
        else:
            arrays = codecs.fit_all(fitted, config.channels)
            kept = codecs.quality_all(arrays, held_out, config.dtype).values()
            explained, lost = (round(float(value), 5) for value in np.mean(list(kept), axis=0))
            with tempfile.TemporaryDirectory(dir=folder) as place:
                measured = measure(job, index, encoded(raw, config, arrays, place))
            result[name] = {**measured, "explained": explained, "lost": lost}
        print(json.dumps({name: result[name]}), file=sys.stderr, flush=True)
    return result


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("job")
    options.add_argument("overrides", nargs="*", help="key.sub=value")
    given = options.parse_args()
    job = load_job(given.job, given.overrides)
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
        result = compare(job, folder)
    print(json.dumps({"job": job.name, "limit": job.data.limit, "seeds": len(SEEDS), "codecs": result}))


if __name__ == "__main__":
    main()
