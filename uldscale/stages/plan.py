"""The verb `plan`: what a job will cost, before anyone asks for a GPU."""

from dataclasses import dataclass

import typer

from uldscale.data.listing import list_records
from uldscale.diffusion.cost import Cost, measure
from uldscale.errors import ConfigError
from uldscale.job import Job
from uldscale.store.spec import StoreSpec, TapSpec
from uldscale.training.schedule import Stage

UTILISATION = 0.4
"""Share of a GPU's peak that extraction is taken to reach; an assumption until it is measured on the GPU at hand."""
OBJECTS_PER_SHARD = 2
"""Commit record and attempt record, beside one object per array."""


@dataclass(frozen=True)
class Gpu:
    """Data sheet figures."""

    teraflops: float
    """Dense bfloat16 (float16 for t4)."""
    dollars: float
    """An hour, about what clouds ask on demand; negotiate."""


GPUS = {
    "t4": Gpu(65, 0.4),
    "l4": Gpu(121, 0.8),
    "a10g": Gpu(70, 1.2),
    "a100": Gpu(312, 3.0),
    "h100": Gpu(989, 6.0),
    "h200": Gpu(989, 7.0),
}


def print_plan(job: Job, gpu: str) -> None:
    """Print the plan of a job on a GPU. Raises ConfigError for an unknown GPU."""
    if gpu not in GPUS:
        raise ConfigError(f"unknown GPU {gpu!r}; wanted one of {', '.join(GPUS)}")
    cost = measure(job.extract.features, job.data.size)
    spec = store_spec(job, cost, len(list_records(job.data)))
    typer.echo("\n".join(f"{name:<22}{value}" for name, value in plan(job, cost, spec, gpu).items()))


def store_spec(job: Job, cost: Cost, num_rows: int) -> StoreSpec:
    """The store that the job will fill, as far as its size goes."""
    features = job.extract.features
    return StoreSpec(
        model=features.backbone.model, weight_hash="", prompt=features.backbone.prompt, mode=features.mode, noise=features.noise,
        seed=features.seed, timesteps=features.timesteps, taps=tuple(TapSpec(*tap) for tap in cost.taps), views={}, codec={},
        dtype="float16" if features.codec.kind == "none" else "int8", image_size=job.data.size, index="", num_rows=num_rows,
        num_views=job.extract.views.count, rows_per_shard=job.extract.store.rows_per_shard, shard_mib=job.extract.store.shard_mib,
    )  # fmt: skip


def plan(job: Job, cost: Cost, spec: StoreSpec, gpu: str) -> dict[str, str]:
    """What to expect, by name."""
    views = spec.num_rows * spec.num_views
    flops = views * (cost.vae_flops + len(spec.timesteps) * cost.unet_flops)
    hours = flops / (GPUS[gpu].teraflops * 1e12 * UTILISATION) / 3600
    steps = sum(job.train.of(stage).steps for stage in Stage)
    read = steps * job.train.batch * 2 * spec.row_bytes / spec.num_views
    return {
        "images": f"{spec.num_rows:,} in {spec.num_views} views, {len(spec.timesteps)} timesteps, {len(spec.taps)} taps",
        "store": f"{_bytes(spec.num_rows * spec.row_bytes)}, {_bytes(spec.row_bytes)} an image",
        "objects": f"{spec.num_shards * (len(spec.resolutions) + 1 + OBJECTS_PER_SHARD):,} in {spec.num_shards:,} shards",
        "extraction": f"{flops / 1e15:,.1f} PFLOP, {hours:,.2f} {gpu} hours at {UTILISATION:.0%} of peak, "
        f"${hours * GPUS[gpu].dollars:,.2f} at ${GPUS[gpu].dollars:g} an hour",
        "training": f"{steps:,} steps of {job.train.batch} images in 2 views",
        "reading": f"{_bytes(read)} in all, {_bytes(read / steps)} a step, "
        f"{_bytes(read / steps / job.runtime.workers * 10)}/s for each worker at 10 steps a second",
    }


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.2f} TB"
