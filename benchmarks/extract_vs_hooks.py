"""How fast are features extracted on this CPU, against the plain way and against the bare model?

    python benchmarks/extract_vs_hooks.py

The plain way: the parts of a diffusers pipeline with forward hooks, whole UNet in float32, one image and one timestep at a
time. Ours: the UNet up to the last tap, batches, the VAE once an image, channels last; in float32 and in bfloat16. All use
the full-size UNet and VAE of Stable Diffusion 1.5 with the same random weights, and all cores. The whole of extraction
adds decoding, views, codec and writing to the store, by the worker of the product in its own threads; the bare model is
the same calls of VAE and UNet on data that is there. All run in one process with the environment of the product's actors;
the plain way also in a process of its own with the environment as it is, which is how short scripts are run. Ours must
give the features of the plain way within a tolerance. Rounds alternate; medians count. Prints one JSON line.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from uldscale.data.faces3d import render
from uldscale.data.index import DataConfig, ImageIndex
from uldscale.diffusion import codec as codecs
from uldscale.diffusion import noising
from uldscale.diffusion.backbone import Backbone, BackboneConfig
from uldscale.diffusion.codec import CodecConfig
from uldscale.diffusion.extractor import Extractor, FeatureConfig
from uldscale.models.views import ViewConfig
from uldscale.runtime import environment
from uldscale.runtime.actors import IN_FLIGHT
from uldscale.stages.extract import store_spec
from uldscale.stages.shard_worker import Blueprint, ExtractConfig, ShardWorker
from uldscale.store.features import FeatureStore
from uldscale.store.spec import StoreConfig

Images = NDArray[np.uint8]
TIMESTEPS = (101, 261)
PER_SHARD = 4
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.03}
"""Root mean square error of a tap, as a share of its standard deviation; measured 2e-5 and 0.017."""
ENVIRONMENT = environment.of_worker(os.cpu_count() or 1, gpus=0)


def plain(backbone: Backbone, images: Images, ids: list[str]) -> dict[str, list[Tensor]]:
    """Features by tap, one entry an image and timestep, as short scripts get them."""
    kept: dict[str, list[Tensor]] = {name: [] for name in backbone.tap_names}

    def keep(module: nn.Module, inputs: object, output: Tensor, *, name: str) -> None:
        kept[name].append(output[0].clone())

    hooks = [
        backbone.unet.get_submodule(f"{name}.conv2").register_forward_hook(partial(keep, name=name)) for name in kept
    ]
    with torch.no_grad():
        for image, name in zip(images, ids, strict=True):
            for timestep in TIMESTEPS:
                pixels = torch.from_numpy(image)[None].permute(0, 3, 1, 2).float() / 127.5 - 1
                latents = backbone.vae.encode(pixels).latent_dist.mean * backbone.vae.config.scaling_factor
                noise = noising.noise(tuple(latents.shape[1:]), seed=0, timestep=timestep, name=name)
                at = torch.tensor([timestep])
                noised = noising.add_noise(latents, noise, at, backbone.alphas_cumprod)
                backbone.unet(noised, at, encoder_hidden_states=backbone.prompt_embeds)
    for hook in hooks:
        hook.remove()
    return kept


def bare(extractor: Extractor, images: Images) -> None:
    """The model alone: VAE once an image, UNet in full batches, on random numbers that are there."""
    backbone, batch = extractor.backbone, extractor.batch
    side = images.shape[1] // backbone.pixels_per_cell
    latents, at = torch.randn(batch, 4, side, side).to(backbone.dtype), torch.full((batch,), 101)
    pixels = torch.randn(batch, 3, *images.shape[1:3])
    with torch.inference_mode():
        for _ in range(-(-len(images) // batch)):
            backbone.latents(pixels)
        for _ in range(-(-len(images) * len(TIMESTEPS) // batch)):
            backbone.maps(extractor.taps, latents, at)


def whole(folder: Path, config: ExtractConfig, index: ImageIndex, size: int) -> ShardWorker:
    """A worker that is set up, with an empty store and a codec."""
    root, path = str(folder / "store.zarr"), str(folder / "index.parquet")
    index.write(path)
    outline = Backbone.outline(config.features.backbone)
    spec = store_spec(config, outline, size, num_rows=len(index), index=index.fingerprint())
    store = FeatureStore.open_or_create(root, spec)
    native = outline.describe(Extractor(outline, config.features).taps, size)
    random = np.random.default_rng(0)
    samples = {tap.name: random.normal(size=(2000, tap.channels)).astype(np.float32) for tap in native}
    store.write_codec(codecs.fit_all(samples, config.features.codec.channels))
    worker = ShardWorker(
        Blueprint(config, root, path, size, gpus=torch.cuda.device_count(), readers=os.cpu_count() or 1)
    )
    worker.setup()
    return worker


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--size", type=int, default=512, help="pixels of an image")
    options.add_argument(
        "--images", type=int, default=16, help="images of a round, a multiple of 4; the plain way does 1"
    )
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--batch", type=int, default=4)
    options.add_argument("--plain", action="store_true", help="only the plain way, in the environment as it is")
    given = options.parse_args()
    if given.plain:
        print(plain_alone(given.size))
        return
    if "MALLOC_ARENA_MAX" not in os.environ:
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | ENVIRONMENT)
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
        result = measure(Path(folder), given)
    print(json.dumps(result))


def measure(folder: Path, given: argparse.Namespace) -> dict[str, object]:
    index = ImageIndex.build(DataConfig(kind="folder", train=photographs(folder, given), size=given.size))
    images = np.stack([index.load(row, given.size) for row in range(given.images)])
    ids = [index.row(row).id for row in range(given.images)]
    kinds = ("float32", "bfloat16")
    features = {
        kind: FeatureConfig(
            backbone=BackboneConfig(model="random-sd15", dtype=kind), timesteps=TIMESTEPS, batch=given.batch,
            codec=CodecConfig(channels=64),
        )
        for kind in kinds
    }  # fmt: skip
    extractors = {kind: Extractor(Backbone.load(features[kind].backbone), features[kind]) for kind in kinds}
    config = ExtractConfig(
        features=features["bfloat16"], views=ViewConfig(count=1), store=StoreConfig(rows_per_shard=PER_SHARD)
    )
    worker = whole(folder, config, index, given.size)
    torch.set_num_threads(os.cpu_count() or 1)
    simple = plain_backbone()
    errors = {kind: error(plain(simple, images[:1], ids[:1]), extractors[kind], images[:1], ids[:1]) for kind in kinds}
    for kind, found in errors.items():
        assert found < TOLERANCE[kind], (
            f"{kind}: features differ from the plain ones by {found:.2g}, wanted {TOLERANCE[kind]}"
        )

    def shards() -> None:
        with ThreadPoolExecutor(IN_FLIGHT) as threads:
            list(threads.map(worker.process, range(given.images // PER_SHARD)))
        for record in (folder / "store.zarr/commits").iterdir():
            record.unlink()

    works: dict[str, tuple[int, Callable[[], object]]] = {
        "plain_tuned": (1, lambda: plain(simple, images[:1], ids[:1])),
        "float32": (given.images, lambda: extractors["float32"].raw(images, ids)),
        "bfloat16": (given.images, lambda: extractors["bfloat16"].raw(images, ids)),
        "bare_bfloat16": (given.images, lambda: bare(extractors["bfloat16"], images)),
        "whole_bfloat16": (given.images, shards),
    }
    taken: dict[str, list[float]] = {name: [] for name in ("plain", *works)}
    for _ in range(given.rounds):
        taken["plain"].append(in_own_process(given.size))
        for name, (count, work) in works.items():
            taken[name].append(seconds(work) / count)
    spent = {name: float(np.median(values)) for name, values in taken.items()}
    return {
        "seconds_per_image": {name: round(value, 3) for name, value in spent.items()},
        "over_plain": {name: round(spent["plain"] / value, 2) for name, value in spent.items()},
        "whole_over_bare": round(spent["bare_bfloat16"] / spent["whole_bfloat16"], 3),
        "relative_error": {kind: round(value, 6) for kind, value in errors.items()},
        "size": given.size, "timesteps": len(TIMESTEPS), "batch": given.batch, "images": given.images,
        "rounds": given.rounds, "cpus": os.cpu_count(), "torch": torch.__version__,
    }  # fmt: skip


def plain_backbone() -> Backbone:
    """In the plain layout: channels first, as from_pretrained gives it."""
    backbone = Backbone.load(BackboneConfig(model="random-sd15", dtype="float32"))
    backbone.unet.to(memory_format=torch.contiguous_format)
    backbone.vae.to(memory_format=torch.contiguous_format)
    return backbone


def plain_alone(size: int) -> float:
    """Seconds per image of the plain way in this process, after one image that does not count."""
    backbone, image = plain_backbone(), render(0, size=size).image[None]
    plain(backbone, image, ["0"])
    return seconds(lambda: plain(backbone, image, ["0"]))


def in_own_process(size: int) -> float:
    command = [sys.executable, __file__, "--plain", "--size", str(size)]
    clean = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT}
    return float(subprocess.run(command, env=clean, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def photographs(folder: Path, given: argparse.Namespace) -> str:
    """JPEG files twice as large as the images that are wanted, as cameras give them."""
    (folder / "images").mkdir()
    for seed in range(given.images):
        face = Image.fromarray(render(seed, size=2 * given.size).image)
        face.save(folder / "images" / f"{seed:03d}.jpg", quality=92)
    return str(folder / "images")


def error(expected: dict[str, list[Tensor]], extractor: Extractor, images: Images, ids: list[str]) -> float:
    """Largest over the taps of the root mean square error, as a share of the standard deviation."""
    found = extractor.raw(images, ids)
    pairs = [(found[name][0], torch.stack(maps)) for name, maps in expected.items()]
    return max(float((ours - theirs).square().mean().sqrt() / theirs.std()) for ours, theirs in pairs)


if __name__ == "__main__":
    main()
