"""The verb `plan`: what a job will cost, before anyone asks for a GPU."""

from dataclasses import dataclass

import typer

from uldscale.data.index import DataConfig
from uldscale.data.listing import list_records
from uldscale.diffusion.backbone import Backbone
from uldscale.diffusion.cost import Cost, measure
from uldscale.errors import ConfigError
from uldscale.stages.extract import store_spec
from uldscale.stages.shard_worker import ExtractConfig
from uldscale.store.spec import StoreSpec
from uldscale.training.schedule import TrainConfig

UTILISATION = 0.4
"""Share of a GPU's peak that extraction is taken to reach; an assumption until it is measured on the GPU at hand."""
STEPS_PER_SECOND = 10
"""Pace for which the reading rate is given."""


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


def print_plan(data: DataConfig, extract: ExtractConfig, train: TrainConfig, workers: int, gpu: str) -> None:
    """Print the plan of a job that trains on some workers, with a GPU. Raises ConfigError for an unknown GPU."""
    if gpu not in GPUS:
        raise ConfigError(f"unknown GPU {gpu!r}; wanted one of {', '.join(GPUS)}")
    outline = Backbone.outline(extract.features.backbone, weights=False)
    spec = store_spec(extract, outline, data.size, num_rows=len(list_records(data)), index="")
    cost = measure(extract.features, outline, data.size)
    lines = {**_extraction(cost, spec, gpu), **_training(train, spec, workers)}
    typer.echo("\n".join(f"{name:<12}{value}" for name, value in lines.items()))


def _extraction(cost: Cost, spec: StoreSpec, gpu: str) -> dict[str, str]:
    flops = spec.num_rows * spec.num_views * cost.flops
    hours = flops / (GPUS[gpu].teraflops * 1e12 * UTILISATION) / 3600
    return {
        "images": f"{spec.num_rows:,} in {spec.num_views} views, {len(spec.timesteps)} timesteps, {len(spec.taps)} taps",
        "store": f"{_bytes(spec.stored_bytes)}, {_bytes(spec.row_bytes)} an image",
        "objects": f"{spec.num_objects:,} in {spec.num_shards:,} shards",
        "extraction": f"{_flops(flops)}, {hours:,.2g} hours of one {gpu} at {UTILISATION:.0%} of its peak, "
        f"${hours * GPUS[gpu].dollars:,.2f} at ${GPUS[gpu].dollars:g} an hour",
    }


def _training(train: TrainConfig, spec: StoreSpec, workers: int) -> dict[str, str]:
    steps = sum(train.of(stage).steps for stage in train.stages)
    step = train.batch * 2 * spec.row_bytes / spec.num_views
    return {
        "training": f"{steps:,} steps of {train.batch} images in 2 views",
        "reading": f"{_bytes(steps * step)} in all, {_bytes(step)} a step; "
        f"{_bytes(step / workers * STEPS_PER_SECOND)}/s for each worker at {STEPS_PER_SECOND} steps a second",
    }


def _flops(count: float) -> str:
    return f"{count / 1e12:,.1f} TFLOP" if count < 1e15 else f"{count / 1e15:,.1f} PFLOP"


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.2f} TB"
