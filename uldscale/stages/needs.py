"""What the processes of each role need in memory, for `plan` and for whoever writes the pods that they run in.

Estimates from shapes, in GiB; in fact a process of the demo has 0.7 (extract) to 1.2 (train).
"""

import math
from dataclasses import dataclass

from uldscale.diffusion.backbone import Backbone
from uldscale.runtime.actors import IN_FLIGHT
from uldscale.runtime.environment import PROCESS_BYTES
from uldscale.runtime.roles import RuntimeConfig
from uldscale.stages.shard_worker import ExtractConfig
from uldscale.store.spec import StoreSpec
from uldscale.training.relabelling import KEYPOINT_BYTES, held_bytes
from uldscale.training.schedule import TrainConfig

BATCHES = 5
"""Read ahead, in use, and kept for the next."""

CUDA_BYTES = 0.6e9
"""What a process takes of a GPU before it has anything to do."""


@dataclass(frozen=True)
class Scale:
    """What a job works on."""

    extract: ExtractConfig
    train: TrainConfig
    runtime: RuntimeConfig
    spec: StoreSpec
    images: int
    """Of training."""


def needs(scale: Scale, outline: Backbone) -> dict[str, float]:
    """GiB of one process, by role of `runtime`; "driver" is the process that leads the run."""
    roles = scale.runtime.roles
    needed = {
        "driver": PROCESS_BYTES + 2_000 * scale.spec.num_rows,
        "extract": _extract(scale, outline),
        "train": _train(scale),
        "relabel": PROCESS_BYTES + held_bytes(scale.train, scale.images),
        "locate": 1.5 * PROCESS_BYTES,
    }
    return {name: math.ceil(size / 2**30 * 2) / 2 for name, size in needed.items() if name in roles or name == "driver"}


def gpu_needs(scale: Scale, outline: Backbone) -> dict[str, float]:
    """GiB of GPU memory of one process of the roles that compute on one: estimates from shapes, not measured."""
    spec, train, features = scale.spec, scale.train, scale.extract.features
    bytes_each = 2 if features.backbone.dtype == "bfloat16" else 4
    extract = bytes_each * (outline.num_parameters + 3 * features.batch * outline.widest_map(spec.image_size))
    train_bytes = (2 if train.engine.bf16 else 4) * _aggregated(scale)
    return {name: (CUDA_BYTES + size) / 2**30 for name, size in {"extract": extract, "train": train_bytes}.items()}


def _aggregated(scale: Scale) -> float:
    """Numbers that the aggregator of one worker keeps for the backward pass."""
    pairs = 2 * math.ceil(scale.train.batch / scale.runtime.train.count)
    maps = len(scale.spec.taps) * len(scale.spec.timesteps)
    return 3.0 * pairs * maps * scale.train.network.grid**2 * scale.train.network.aggregator.width


def _extract(scale: Scale, outline: Backbone) -> float:
    """Weights, shards on their way, and on a CPU the widest maps of the model."""
    spec, features = scale.spec, scale.extract.features
    views = spec.shard_rows * spec.num_views * spec.image_size**2 * 3
    size = PROCESS_BYTES + outline.num_parameters * 4 + IN_FLIGHT * 2 * (spec.shard_rows * spec.row_bytes + views)
    if scale.runtime.extract.gpus == 0:
        size += 3 * 4 * features.batch * outline.widest_map(spec.image_size)
    return float(size)


def _train(scale: Scale) -> float:
    """Batches, labels, this worker's part of a round's sample, and on a CPU what the aggregator keeps for the backward pass."""
    spec, train, workers = scale.spec, scale.train, scale.runtime.train.count
    pairs = 2 * math.ceil(train.batch / workers)
    batches = BATCHES * pairs * spec.row_bytes / spec.num_views
    labels = spec.num_rows * 8 * (1 + train.clusters.landmarks)
    sample = min(train.clusters.sample, scale.images * train.keypoints.maximum) / workers
    # Its blocks, the whole of it, and that on its way.
    keypoints = 3 * sample * (2 * train.network.heads.descriptor + KEYPOINT_BYTES)
    size = 1.5 * PROCESS_BYTES + batches + labels + keypoints
    if scale.runtime.train.gpus == 0:
        size += 4 * _aggregated(scale)
    return float(size)
