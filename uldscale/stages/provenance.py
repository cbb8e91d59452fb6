"""What a result was made with and what it took: settings, versions, time and bytes."""

import os
from typing import Any

from uldscale import files
from uldscale.runs import RunFolder
from uldscale.runtime.progress import clock
from uldscale.store.features import FeatureStore
from uldscale.training.schedule import TrainConfig

PACKAGES = ("torch", "diffusers", "numpy", "scikit-learn")


def settings(run: RunFolder, result: dict[str, Any]) -> dict[str, str]:
    """What decides a result, by its name."""
    job, environment = run.read_config(), files.read_json(run.environment)
    features, images = job["extract"]["features"], result["dataset"]["train_images"]
    train = TrainConfig.model_validate(job["train"]).in_steps(images)
    stages = (
        f"{stage.value} {train.of(stage).steps:,} ({train.of(stage).steps * train.batch / images:.1f})"
        for stage in train.stages
    )
    versions = (f"{name} {environment['packages'][name]}" for name in PACKAGES if name in environment["packages"])
    made = result["made"]
    return {
        "landmarks K, poses Q": f"{train.clusters.landmarks}, {train.clusters.poses}",
        "seed": str(train.seed),
        "images": f"data.kind {job['data']['kind']}, crops of {job['data']['size']} px",
        "diffusion model": f"{features['backbone']['model']}, timesteps {', '.join(map(str, features['timesteps']))}",
        "steps of a stage (epochs)": ", ".join(stages),
        "batch": f"{train.batch} images",
        "made": f"{made['date'].replace('T', ' ')}, uldscale {made['version']}",
        "command": made["command"],
        "again": f"uldscale run {run.config}",
        "environment": f"Python {environment['python']}, {', '.join(versions)}, {environment['cpus']} CPUs, {environment['platform']}",
    }


def costs(run: RunFolder, result: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Stage, time and bytes at rest of each."""
    root = run.read_config()["extract"]["store"]["root"] or run.store
    stored = {
        "index": _size(run.index),
        # Of a store as it was planned, which is what it takes: a large one has too many objects to ask each.
        "extract": FeatureStore.open(root).spec.stored_bytes if files.exists(root) else 0,
        "train": _size(run.labels) + _size(run.checkpoints) + _size(run.model),
        "evaluate": _size(run.methods) + _size(run.result),
    }
    spent: dict[str, float] = result["seconds"]
    stages = [*spent, *(stage for stage, size in stored.items() if size and stage not in spent)]
    return [
        (
            stage,
            clock(spent[stage]) if stage in spent else "",
            files.in_units(stored[stage]) if stored.get(stage) else "",
        )
        for stage in stages
    ]


def _size(place: str) -> int:
    """Bytes of a file or of all files below a folder; 0 where nothing is."""
    if os.path.isfile(place):
        return os.path.getsize(place)
    return sum(os.path.getsize(os.path.join(folder, name)) for folder, _, names in os.walk(place) for name in names)
