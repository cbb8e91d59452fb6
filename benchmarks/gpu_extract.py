"""How fast are features extracted on a GPU, of what it can do, and against the plain way in diffusers?

    python benchmarks/gpu_extract.py

Stable Diffusion 1.5 at 512 px with random weights, bfloat16, all taps. Ours is the whole of extraction, by the worker of the
product in its own threads: JPEG files are decoded, encoded by the VAE and the UNet, projected, quantised and written to a
store on the local disk. The plain ways hook the whole UNet, have their images on the GPU already and copy float16 maps to
the host: `plain` one image and one timestep at a time, `plain_best` in batches, channels last, with torch.compile. MFU is
the model's FLOPs (a multiply-add counts as two) over the peak of the data sheet; gpu_busy is the share of time in which a
kernel ran, as the driver counts it (nvidia-smi, ten times a second). Rounds alternate; medians count. Prints one JSON line.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout
from functools import partial
from pathlib import Path

import numpy as np
import torch
from extract_vs_hooks import photographs, whole
from torch import Tensor, nn

from uldscale.data.index import DataConfig, ImageIndex
from uldscale.diffusion import cost, noising
from uldscale.diffusion.backbone import Backbone, BackboneConfig
from uldscale.diffusion.extractor import FeatureConfig
from uldscale.models.views import ViewConfig
from uldscale.runtime.actors import IN_FLIGHT
from uldscale.runtime.machine import Machine
from uldscale.stages.devices import GPUS, named
from uldscale.stages.shard_worker import ExtractConfig, ShardWorker
from uldscale.store.spec import StoreConfig

PLAIN_IMAGES = 8


def plain(backbone: Backbone, images: Tensor, timesteps: tuple[int, ...], batch: int) -> None:
    """Maps of all timesteps on the host; images: (B, 3, S, S) in [-1, 1] on the GPU."""
    kept: list[Tensor] = []

    def keep(module: nn.Module, inputs: object, output: Tensor) -> None:
        kept.append(output.half().cpu())

    names = backbone.tap_names
    hooks = [backbone.unet.get_submodule(f"{name}.conv2").register_forward_hook(keep) for name in names]
    with torch.inference_mode():
        for part in images.split(batch):
            latents = backbone.latents(part)
            for timestep in timesteps:
                at = torch.full((len(part),), timestep, device=part.device)
                noised = noising.add_noise(latents, torch.randn_like(latents), at, backbone.alphas_cumprod)
                backbone.unet(noised.to(backbone.dtype), at, **backbone.condition(len(part), part.shape[-1]))
            kept.clear()
    for hook in hooks:
        hook.remove()


def shards(worker: ShardWorker, store: Path, count: int) -> None:
    """Extract all images anew, as an actor does."""
    for record in (store / "commits").glob("*.json"):
        record.unlink()
    with ThreadPoolExecutor(IN_FLIGHT) as threads:
        list(threads.map(worker.process, range(count)))


@contextmanager
def watched(shares: list[float]) -> Iterator[None]:
    """Adds the share of time in which the GPU ran a kernel while the context lasts."""
    card = f"GPU-{torch.cuda.get_device_properties(torch.cuda.current_device()).uuid}"
    query = ["--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "100"]
    with subprocess.Popen(["nvidia-smi", "-i", card, *query], stdout=subprocess.PIPE, text=True) as sampler:
        try:
            yield
        finally:
            sampler.terminate()
        samples = [int(line) for line in sampler.communicate()[0].split()]
    assert samples, "a round ended before nvidia-smi said anything; give more --images"
    shares.append(float(np.mean(samples)) / 100)


def seconds(work: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(folder: Path, given: argparse.Namespace) -> dict[str, object]:
    timesteps = tuple(range(1, 1 + 100 * given.timesteps, 100))
    features = FeatureConfig(
        backbone=BackboneConfig(model=given.model, dtype="bfloat16"), timesteps=timesteps, batch=given.batch,
        compile=not given.no_compile,
    )  # fmt: skip
    config = ExtractConfig(
        features=features, views=ViewConfig(count=1), store=StoreConfig(rows_per_shard=given.images // given.shards)
    )
    index = ImageIndex.build(DataConfig(kind="folder", train=photographs(folder, given), size=given.size))
    worker = whole(folder, config, index, given.size)
    batched = Backbone.load(features.backbone, "cuda")
    single = Backbone.load(features.backbone, "cuda")
    single.unet.to(memory_format=torch.contiguous_format)
    batched.compile(batched.tap_names)
    crops = np.stack([index.load(row, given.size) for row in range(PLAIN_IMAGES)])
    images = torch.from_numpy(crops).cuda().permute(0, 3, 1, 2).float() / 127.5 - 1
    many = images.repeat(given.images // PLAIN_IMAGES, 1, 1, 1)
    ways: dict[str, tuple[int, Callable[[], object]]] = {
        "uldscale": (given.images, partial(shards, worker, folder / "store.zarr", given.shards)),
        "plain": (PLAIN_IMAGES, partial(plain, single, images, timesteps, 1)),
        "plain_best": (len(many), partial(plain, batched, many, timesteps, PLAIN_IMAGES)),
    }
    for _, work in ways.values():
        work()
    spent: dict[str, list[float]] = {name: [] for name in ways}
    busy: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(given.rounds):
        for name, (count, work) in ways.items():
            with watched(busy[name]):
                spent[name].append(seconds(work) / count)
    rates = {name: 1 / float(np.median(values)) for name, values in spent.items()}
    flops = cost.measure(features, Backbone.outline(features.backbone, weights=False), given.size).flops
    return {
        "images_per_second": {name: round(rate, 2) for name, rate in rates.items()},
        "uldscale_over": {name: round(rates["uldscale"] / rate, 2) for name, rate in rates.items() if name != "uldscale"},
        "mfu": {name: round(rate * flops / peak(given.gpu), 3) for name, rate in rates.items()},
        "gpu_busy": {name: round(float(np.median(shares)), 3) for name, shares in busy.items()},
        "tflop_per_image": round(flops / 1e12, 2),
        "batch": worker._extractor.batch, "compiled": features.compile, "timesteps": len(timesteps), "size": given.size,
        "images": given.images, "rounds": given.rounds, "gpu": torch.cuda.get_device_name(), "torch": torch.__version__,
    }  # fmt: skip


def peak(name: str) -> float:
    """Dense bfloat16 operations a second."""
    return GPUS[name].bfloat16 * 1e12


def known_gpu() -> str | None:
    """The entry of the plan's table for the card of this machine."""
    cards = Machine.here().gpus
    return named(cards[0]) if cards else None


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--model", default="random-sd15")
    options.add_argument("--size", type=int, default=512)
    options.add_argument("--timesteps", type=int, default=4)
    options.add_argument("--images", type=int, default=128, help="of a round; a multiple of 8 and of --shards")
    options.add_argument("--shards", type=int, default=4)
    options.add_argument("--batch", type=int, default=32)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--no-compile", action="store_true")
    options.add_argument("--gpu", choices=sorted(GPUS), default=known_gpu(), help="for its peak")
    given = options.parse_args()
    if not torch.cuda.is_available():
        options.error("this machine has no GPU that torch can use")
    if given.gpu is None:
        options.error(f"{torch.cuda.get_device_name()} is not in the table of peaks; give --gpu")
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
        result = measure(Path(folder), given)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
