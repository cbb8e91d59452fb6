"""What does a whole run cost as data sets grow: seconds and memory of every stage, and what do kills change?

    python benchmarks/whole_run.py --images 10000 50000 230000 [--killed 10000]

Each size is a folder of small JPEG files. `uldscale index`, `extract`, `train` and `evaluate` run on them as a user runs them, with the
model that ships with the package, few steps and rounds of labels of both kinds; the memory of every process is read from /proc.
Milliseconds an image are those of what one size has more than the size before, so that what every run costs once is left out. With
--killed a run of that size is done again, in which an actor, the driver and the raylet are killed while it extracts, a trainer, the
service and the driver while it trains; its store, labels and methods are compared with those of the first. Prints one JSON line.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from watched import SIDE, Command, same, write_images

from uldscale.runs import RunFolder

VERBS = ("index", "extract", "train", "evaluate")
TEST_IMAGES = 200


def write_job(folder: Path, name: str, images: Path) -> Path:
    features = {
        "backbone": {"model": "tiny-ldm"}, "timesteps": [50], "batch": 32,
        "taps": ["up_blocks.0.resnets.2", "up_blocks.1.resnets.2"], "codec": {"channels": 8, "sample": 64},
    }  # fmt: skip
    stage = {"steps": 40, "learning_rate": 1e-3}
    labelled = {**stage, "relabel_every": 20}
    train = {
        "network": {
            "grid": 16, "aggregator": {"hidden": 16, "width": 32, "upsample_first": False}, "heads": {"descriptor": 32},
            "vae": {"latent": 16},
        },
        "batch": 16, "warmup_steps": 10, "checkpoint_every": 20, "log_every": 10, "clusters": {"landmarks": 10, "poses": 5},
        "bootstrap": stage, "d_uld": labelled, "d_uld_pose_proxy": stage, "d_uld_pp": labelled,
    }  # fmt: skip
    job = {
        "name": name,
        "output": str(folder / "runs"),
        "data": {"kind": "folder", "train": str(images / "train"), "test": str(images / "test"), "size": SIDE},
        "extract": {"features": features, "views": {"count": 2}, "store": {"rows_per_shard": 250}},
        "train": train,
        "runtime": {"extract": {"count": 2}, "train": {"count": 2, "threads": 1}},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(job))
    return path


def measure(job: Path, count: int) -> dict[str, Any]:
    """Every verb in turn."""
    seconds, peaks = {}, {}
    for verb in VERBS:
        command = Command(verb, job)
        seconds[verb] = round(command.finish(), 1)
        peaks[verb] = {part: round(peak) for part, peak in sorted(command.peaks.items())}
    rounds = [
        event["seconds"] for event in RunFolder(str(run_folder(job))).read_metrics() if event["event"] == "relabel"
    ]
    found = {"images": count, "seconds": seconds, "round_seconds": rounds, "peak_mb": peaks}
    print(json.dumps(found), file=sys.stderr, flush=True)
    return found


def run_folder(job: Path) -> Path:
    return job.parent / "runs" / job.stem


def growth(sizes: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Milliseconds by verb for each image that a size has more than the size before."""
    return [
        {
            verb: round(1e3 * (more["seconds"][verb] - less["seconds"][verb]) / (more["images"] - less["images"]), 3)
            for verb in VERBS
        }
        for less, more in pairwise(sizes)
    ]


def survive(job: Path, reference: Path) -> dict[str, Any]:
    """The same job with six kills: exit codes of the processes that led it, and whether all is that of the undisturbed run."""
    total = len(list((run_folder(reference) / "store.zarr/commits").iterdir()))
    kills = [
        ("actor", "store.zarr/commits/*", total // 4),
        ("driver", "store.zarr/commits/*", total // 2),
        ("raylet", "store.zarr/commits/*", 3 * total // 4),
        ("trainer", "checkpoints/01*", 1),
        ("service", "checkpoints/02*", 1),
        ("driver", "checkpoints/03*", 1),
    ]
    command, exits = Command("run", job), []
    for part, marks, count in kills:
        command.watch(until=reached(job, marks, count))
        command.kill(part)
        if part in ("driver", "raylet"):
            command.watch()
            exits.append(command.process.returncode)
            command.end()
            command = Command("run", job)
    command.finish()
    return {
        "killed": [part for part, _, _ in kills],
        "exit_codes": [*exits, command.process.returncode],
        "same": {
            name: same(str(run_folder(job) / name), str(run_folder(reference) / name))
            for name in ("store.zarr", "labels", "methods")
        },
    }


def reached(job: Path, marks: str, count: int) -> Callable[[], bool]:
    return lambda: len(list(run_folder(job).glob(marks))) >= count


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--images", type=int, nargs="+", default=[2000, 10_000])
    options.add_argument("--killed", type=int)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sizes, jobs = [], {}
        for count in given.images:
            images = Path(folder) / f"images-{count}"
            write_images(images / "train", count)
            write_images(images / "test", TEST_IMAGES)
            jobs[count] = write_job(Path(folder), f"whole-{count}", images)
            sizes.append(measure(jobs[count], count))
        kills = None
        if given.killed:
            again = write_job(Path(folder), "killed", Path(folder) / f"images-{given.killed}")
            kills = survive(again, jobs[given.killed])
    print(
        json.dumps({"sizes": sizes, "ms_an_image": growth(sizes), "kills": kills, "side": SIDE, "cpus": os.cpu_count()})
    )


if __name__ == "__main__":
    main()
