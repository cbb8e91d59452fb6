"""Do the time and the memory of extraction stay flat per image as data sets grow, and does it survive kill -9?

    python benchmarks/extract_scaling.py --images 1000 10000 100000 --kill

Each size is a folder of small JPEG files, crops of a few hundred generated faces with a shift, a scale and a brightness of
their own. `uldscale index` and `uldscale extract` run on them as a user runs them, with the model that ships with the
package; the memory of the driver and of its actors is read from /proc. With --kill the largest size is done a second time,
in which an actor is killed at a quarter, the driver at half and the raylet at three quarters of the shards, and the store
is compared with the first one. Prints one JSON line.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import yaml
from PIL import Image

from uldscale.data.faces3d import render

FACES = 500
SIDE = 32
MEGABYTE = 2**20


def write_images(folder: Path, count: int) -> None:
    faces = [Image.fromarray(render(seed, size=64).image) for seed in range(min(FACES, count))]
    for number in range(count):
        random = np.random.default_rng(number)
        side, (x, y) = random.uniform(40, 60), random.uniform(0, 4, 2)
        crop = faces[number % len(faces)].resize((SIDE, SIDE), Image.Resampling.BILINEAR, (x, y, x + side, y + side))
        place = folder / f"{number // 1000:04d}"
        place.mkdir(exist_ok=True)
        crop.point([min(255, int(value * random.uniform(0.7, 1.3))) for value in range(256)] * 3).save(
            place / f"{number:07d}.jpg"
        )


def write_job(folder: Path, name: str, images: Path, actors: int) -> Path:
    features = {
        "backbone": {"model": "tiny-ldm"}, "timesteps": [50], "batch": 32,
        "taps": ["up_blocks.0.resnets.2", "up_blocks.1.resnets.2"], "codec": {"channels": 8, "sample": 64},
    }  # fmt: skip
    job = {
        "name": name,
        "output": str(folder / "runs"),
        "data": {"kind": "folder", "train": str(images), "size": SIDE},
        "extract": {"features": features, "views": {"count": 2}, "store": {"rows_per_shard": 250}},
        "runtime": {"extract": {"count": actors}},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(job))
    return path


class Run:
    """One verb of the command line as a process, watched until it ends."""

    def __init__(self, verb: str, job: Path) -> None:
        command = [sys.executable, "-c", "from uldscale.cli import main; main()", verb, str(job)]
        self.process = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
        self.peaks = {"driver": 0.0, "actor": 0.0}
        self.start = time.monotonic()

    def parts(self) -> Iterator[tuple[str, psutil.Process]]:
        """Processes of the run by their part in it."""
        if not self.process.is_running():
            return
        yield "driver", self.process
        for child in self.process.children(recursive=True):
            try:
                if child.name() == "raylet":
                    yield "raylet", child
                elif "ray::_Actor" in " ".join(child.cmdline()):
                    yield "actor", child
            except psutil.Error:
                continue

    def watch(self, until: Callable[..., bool] = lambda: False) -> float:
        """Wait until it ends or something is reached; seconds since it began."""
        while self.process.poll() is None and not until():
            for name, process in self.parts():
                try:
                    self.peaks[name] = max(self.peaks.get(name, 0), process.memory_info().rss / MEGABYTE)
                except psutil.Error:
                    continue
            time.sleep(0.2)
        return time.monotonic() - self.start

    def kill(self, part: str) -> None:
        next(process for name, process in self.parts() if name == part).send_signal(signal.SIGKILL)

    def end(self) -> None:
        """Nothing of it is left."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def measure(job: Path, count: int) -> dict[str, float]:
    index = Run("index", job)
    index_seconds = index.watch()
    extract = Run("extract", job)
    extract_seconds = extract.watch()
    assert extract.process.returncode == 0, extract.process.stderr.read().decode()
    return {
        "images": count,
        "index_ms_per_image": round(1e3 * index_seconds / count, 3),
        "extract_seconds": round(extract_seconds, 1),
        "extract_ms_per_image": round(1e3 * extract_seconds / count, 3),
        "shard_seconds_first_and_last_tenth": tenths(job),
        "index_peak_mb": round(index.peaks["driver"]),
        "driver_peak_mb": round(extract.peaks["driver"]),
        "actor_peak_mb": round(extract.peaks["actor"]),
    }  # fmt: skip


def tenths(job: Path) -> list[float]:
    """Median seconds of the first and of the last tenth of the shards."""
    lines = (run_folder(job) / "metrics.jsonl").read_text().splitlines()
    spent = [event["seconds"] for event in map(json.loads, lines) if event["event"] == "shard"]
    part = max(1, len(spent) // 10)
    return [round(float(np.median(values)), 3) for values in (spent[:part], spent[-part:])]


def run_folder(job: Path) -> Path:
    return job.parent / "runs" / job.stem


def survive(job: Path, reference: Path) -> dict[str, object]:
    """The same job with three kills; whether its store is that of the undisturbed run."""
    commits = run_folder(job) / "store.zarr" / "commits"
    total = len(list((run_folder(reference) / "store.zarr" / "commits").iterdir()))
    Run("index", job).watch()
    exits = {}
    run = Run("extract", job)
    for part, share in (("actor", 0.25), ("driver", 0.5), ("raylet", 0.75)):
        wanted = int(share * total)
        run.watch(until=lambda wanted=wanted: commits.is_dir() and len(list(commits.iterdir())) >= wanted)
        run.kill(part)
        if part != "actor":
            run.watch()
            exits[part] = run.process.returncode
            run.end()
            run = Run("extract", job)
    run.watch()
    return {"exit_codes": {**exits, "end": run.process.returncode}, "same_store": same(job, reference)}


def same(job: Path, reference: Path) -> bool:
    ours, theirs = (run_folder(path) / "store.zarr" for path in (job, reference))
    return (
        subprocess.run(["diff", "-rq", "-x", "attempts", str(ours), str(theirs)], stdout=subprocess.DEVNULL).returncode
        == 0
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--images", type=int, nargs="+", default=[1000, 10_000])
    options.add_argument("--actors", type=int, default=os.cpu_count() or 1)
    options.add_argument("--kill", action="store_true")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sizes, jobs = [], []
        for count in given.images:
            images = Path(folder) / f"images-{count}"
            images.mkdir()
            write_images(images, count)
            jobs.append(write_job(Path(folder), f"scale-{count}", images, given.actors))
            sizes.append(measure(jobs[-1], count))
            print(json.dumps(sizes[-1]), file=sys.stderr, flush=True)
        killed = write_job(Path(folder), "killed", images, given.actors)
        result = {"sizes": sizes, "kills": survive(killed, jobs[-1]) if given.kill else None}
    print(json.dumps({**result, "actors": given.actors, "side": SIDE, "cpus": os.cpu_count()}))


if __name__ == "__main__":
    main()
