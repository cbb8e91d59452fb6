"""The verb `plan`: what a job will cost, before anyone asks for a GPU."""

from dataclasses import dataclass
from typing import Literal

import torch
import typer
from torch.utils.flop_counter import FlopCounterMode

from uldscale.data.index import DataConfig
from uldscale.data.listing import list_records
from uldscale.diffusion.backbone import Backbone
from uldscale.diffusion.cost import Cost, measure
from uldscale.errors import ConfigError
from uldscale.models.network import Network, NetworkConfig
from uldscale.runtime.roles import RuntimeConfig, Team
from uldscale.stages.extract import store_spec
from uldscale.stages.needs import Scale, needs
from uldscale.stages.shard_worker import ExtractConfig
from uldscale.store.spec import StoreSpec
from uldscale.training.schedule import TrainConfig

UTILISATION = 0.4
"""Share of a GPU's peak that a job is taken to reach; an assumption until it is measured on the GPU at hand."""
STEPS_PER_SECOND = 10
"""Pace for which the reading rate is given."""

Precision = Literal["bfloat16", "float32"]


@dataclass(frozen=True)
class Gpu:
    """Data sheet figures, 10^12 operations a second."""

    bfloat16: float
    """Dense, in tensor cores."""
    float32: float
    """Outside of tensor cores, where torch multiplies matrices of float32. Its convolutions take TF32, so hours are an upper bound."""
    dollars: float
    """An hour, about what clouds ask on demand; negotiate."""


GPUS = {
    # t4 has no units for bfloat16 and computes it like float32.
    "t4": Gpu(8.1, 8.1, 0.4),
    "l4": Gpu(121, 30.3, 0.8),
    "a10g": Gpu(70, 31.5, 1.2),
    "l40s": Gpu(362, 91.6, 1.9),
    "a100": Gpu(312, 19.5, 3.0),
    "h100": Gpu(989, 67, 6.0),
    "h200": Gpu(989, 67, 7.0),
}


def print_plan(data: DataConfig, extract: ExtractConfig, train: TrainConfig, runtime: RuntimeConfig, gpu: str) -> None:
    """Print the plan of a job, with a GPU. Raises ConfigError for an unknown GPU."""
    if gpu not in GPUS:
        raise ConfigError(f"unknown GPU {gpu!r}; wanted one of {', '.join(GPUS)}")
    outline = Backbone.outline(extract.features.backbone, weights=False)
    splits = [split for split, _ in list_records(data)]
    train = train.in_steps(splits.count("train"))
    spec = store_spec(extract, outline, data.size, num_rows=len(splits), index="")
    cost = measure(extract.features, outline, data.size)
    lines = {
        **_extraction(cost, spec, extract.features.backbone.dtype, gpu),
        **_training(train, spec, splits.count("train"), runtime.train.count, gpu),
        **_roles(Scale(extract, train, runtime, spec, splits.count("train")), outline),
    }
    typer.echo("\n".join(f"{name:<12}{value}" for name, value in lines.items()))


def training_flops(train: TrainConfig, spec: StoreSpec, images: int) -> int:
    """Operations of all steps and rounds of labels over so many training images; a multiply-add counts as two.

    A step costs three times its forward pass, also where parts are frozen; losses and the pose VAE, a few percent, are left out.
    """
    steps = sum(train.of(stage).steps for stage in train.stages)
    return _network_flops(train.network, spec) * (3 * 2 * train.batch * steps + images * _rounds(train))


def _rounds(train: TrainConfig) -> int:
    stages = [train.of(stage) for stage in train.stages]
    return sum(-(-stage.steps // stage.relabel_every) for stage in stages if stage.relabel_every)


def _network_flops(config: NetworkConfig, spec: StoreSpec) -> int:
    """Of the forward pass on one view."""
    with torch.device("meta"), torch.no_grad():
        scales = {name: torch.ones(len(taps), taps[0].channels) for name, taps in spec.resolutions.items()}
        network = Network(scales, len(spec.timesteps), config)
        features = {name: torch.empty(1, *spec.shape(name)[2:]) for name in spec.resolutions}
        with FlopCounterMode(display=False) as counted:
            network(features)
    return int(counted.get_total_flops())


def _extraction(cost: Cost, spec: StoreSpec, precision: Precision, gpu: str) -> dict[str, str]:
    return {
        "images": f"{spec.num_rows:,} in {spec.num_views} views, {len(spec.timesteps)} timesteps, {len(spec.taps)} taps",
        "store": f"{_bytes(spec.stored_bytes)}, {_bytes(spec.row_bytes)} an image",
        "objects": f"{spec.num_objects:,} in {spec.num_shards:,} shards",
        "extraction": _spent(spec.num_rows * spec.num_views * cost.flops, precision, gpu),
    }


def _training(train: TrainConfig, spec: StoreSpec, images: int, workers: int, gpu: str) -> dict[str, str]:
    precision: Precision = "bfloat16" if train.engine.bf16 else "float32"
    steps = sum(train.of(stage).steps for stage in train.stages)
    longest = max(train.of(stage).steps for stage in train.stages)
    step = train.batch * 2 * spec.row_bytes / spec.num_views
    return {
        "schedule": f"{steps:,} steps of {train.batch} images in 2 views, at most {longest * train.batch / images:.2g} epochs a stage, "
        f"{_rounds(train)} rounds of labels over {images:,} images",
        "training": _spent(training_flops(train, spec, images), precision, gpu),
        "reading": f"{_bytes(steps * step)} in all, {_bytes(step)} a step; "
        f"{_bytes(step / workers * STEPS_PER_SECOND)}/s for each worker at {STEPS_PER_SECOND} steps a second",
    }


def _roles(scale: Scale, outline: Backbone) -> dict[str, str]:
    """What the processes of each role ask for, and the memory that they need."""
    needed = needs(scale, outline)
    lines = {"driver": f"1 process, {needed.pop('driver'):g} GiB of memory"}
    for name, memory in needed.items():
        role = scale.runtime.roles[name]
        count = role.count if isinstance(role, Team) else 1
        lines[name] = f"{count} x ({role.wants}), {memory:g} GiB of memory each"
        if role.memory_gib is not None and role.memory_gib < memory:
            lines[name] += f": more than runtime.{name}.memory_gib"
    return lines


def _spent(flops: float, precision: Precision, gpu: str) -> str:
    """Operations, and what they take of a GPU."""
    card = GPUS[gpu]
    hours = flops / ((card.bfloat16 if precision == "bfloat16" else card.float32) * 1e12 * UTILISATION) / 3600
    time = f"{hours:,.1f} hours" if hours >= 0.1 else f"{hours * 3600:,.1f} seconds"
    rate = f"{UTILISATION:.0%} of its {precision} peak"
    return f"{_flops(flops)}, {time} of one {gpu} at {rate}, ${hours * card.dollars:,.2f} at ${card.dollars:g} an hour"


def _flops(count: float) -> str:
    return f"{count / 1e12:,.1f} TFLOP" if count < 1e15 else f"{count / 1e15:,.1f} PFLOP"


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.2f} TB"
