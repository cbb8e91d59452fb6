"""The verb `plan`: what a job will cost, before anyone asks for a GPU."""

from dataclasses import dataclass

import torch
import typer
from torch.utils.flop_counter import FlopCounterMode

from uldscale import files
from uldscale.data.index import DataConfig
from uldscale.data.listing import list_records
from uldscale.diffusion.backbone import Backbone
from uldscale.diffusion.cost import Cost, measure
from uldscale.models.network import Network, NetworkConfig
from uldscale.runtime.machine import Machine
from uldscale.runtime.roles import RuntimeConfig, Team
from uldscale.stages.advice import Advisor
from uldscale.stages.devices import CPU, CPU_EXTRACTION, CPU_TRAINING, Precision, gpu_of, spent, spent_here
from uldscale.stages.extract import store_spec
from uldscale.stages.needs import Scale, needs
from uldscale.stages.shard_worker import ExtractConfig
from uldscale.store.spec import StoreSpec
from uldscale.training.schedule import TrainConfig

STEPS_PER_SECOND = 10
"""Pace for which the reading rate is given."""


@dataclass(frozen=True)
class Plan:
    """What a job will cost: lines by name, and advice in sentences."""

    lines: dict[str, str]
    advice: list[str]


def print_plan(
    data: DataConfig, extract: ExtractConfig, train: TrainConfig, runtime: RuntimeConfig, gpu: str, place: str = "."
) -> None:
    """Print the plan of a job, with a GPU or the "cpu" of this machine. Raises ConfigError for an unknown GPU."""
    made = plan(data, extract, train, runtime, gpu, place)
    lines = [f"{name:<12}{value}" for name, value in made.lines.items()]
    typer.echo("\n".join([*lines, *(f"{'advice':<12}{sentence}" for sentence in made.advice)]))


def plan(
    data: DataConfig, extract: ExtractConfig, train: TrainConfig, runtime: RuntimeConfig, gpu: str, place: str = "."
) -> Plan:
    """The plan of a job, whose run folder will be at `place`. Raises ConfigError for an unknown GPU."""
    if gpu != CPU:
        gpu_of(gpu)
    outline = Backbone.outline(extract.features.backbone, weights=False)
    splits = [split for split, _ in list_records(data)]
    images = splits.count("train")
    train = train.in_steps(images)
    spec = store_spec(extract, outline, data.size, num_rows=len(splits), index="")
    scale = Scale(extract, train, runtime, spec, images)
    lines = {
        **_extraction(measure(extract.features, outline, data.size), scale, gpu),
        **_training(scale, gpu),
        **_roles(scale, outline),
    }
    return Plan(lines, Advisor(scale, outline, extract.store.root or place, gpu).all())


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


def _extraction(cost: Cost, scale: Scale, gpu: str) -> dict[str, str]:
    spec, team = scale.spec, scale.runtime.extract
    flops = spec.num_rows * spec.num_views * cost.flops
    precision = scale.extract.features.backbone.dtype
    return {
        "images": f"{spec.num_rows:,} in {spec.num_views} views, {len(spec.timesteps)} timesteps, {len(spec.taps)} taps",
        "store": f"{files.in_units(spec.stored_bytes)}, {files.in_units(spec.row_bytes)} an image",
        "objects": f"{spec.num_objects:,} in {spec.num_shards:,} shards",
        "extraction": spent_here(flops, CPU_EXTRACTION, _cores(team)) if gpu == CPU else spent(flops, precision, gpu),
    }


def _training(scale: Scale, gpu: str) -> dict[str, str]:
    train, spec, team, images = scale.train, scale.spec, scale.runtime.train, scale.images
    flops = training_flops(train, spec, images)
    steps = sum(train.of(stage).steps for stage in train.stages)
    longest = max(train.of(stage).steps for stage in train.stages)
    step = train.batch * 2 * spec.row_bytes / spec.num_views
    precision: Precision = "bfloat16" if train.engine.bf16 else "float32"
    return {
        "schedule": f"{steps:,} steps of {train.batch} images in 2 views, at most {longest * train.batch / images:.2g} epochs a stage, "
        f"{_rounds(train)} rounds of labels over {images:,} images",
        "training": spent_here(flops, CPU_TRAINING, _cores(team)) if gpu == CPU else spent(flops, precision, gpu),
        "reading": f"{files.in_units(steps * step)} in all, {files.in_units(step)} a step; "
        f"{files.in_units(step / team.count * STEPS_PER_SECOND)}/s for each worker at {STEPS_PER_SECOND} steps a second",
    }


def _cores(team: Team) -> int:
    """Of this machine, that the processes of a role keep busy."""
    return min(Machine.here().cpus, team.count * team.threads)


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
