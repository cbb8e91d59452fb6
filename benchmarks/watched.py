"""What the benchmarks of whole runs share: images in any number, and a command that is watched while it runs."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from os import killpg
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from uldscale.data.faces3d import render

FACES = 500
SIDE = 32
MEGABYTE = 2**20
PARTS = {"ray::_Actor": "actor", "ray::RayTrainWorker": "trainer", "ray::_Service": "service"}
"""Of a run, by how the titles of their processes begin; its driver and its raylet are known otherwise."""
COMMAND = [sys.executable, "-c", "from uldscale.cli import main; main()"]


def parts_below(process: psutil.Process) -> Iterator[tuple[str, psutil.Process]]:
    """Processes of a run below another one, by their part in it."""
    for child in process.children(recursive=True):
        with suppress(psutil.Error):
            name, title = child.name(), " ".join(child.cmdline())
            if name == "raylet":
                yield "raylet", child
            for start, part in PARTS.items():
                if start in title:
                    yield part, child


def same(ours: str, theirs: str) -> bool:
    """Whether two folders hold the same bytes, but for who wrote a shard and when."""
    return subprocess.run(["diff", "-rq", "-x", "attempts", ours, theirs], stdout=subprocess.DEVNULL).returncode == 0


@cache
def _faces() -> list[Image.Image]:
    return [Image.fromarray(render(seed, size=64).image) for seed in range(FACES)]


def write_images(folder: Path, count: int) -> None:
    """Crops of a few hundred generated faces, with a shift, a scale and a brightness of their own."""
    for number in range(count):
        random = np.random.default_rng(number)
        side, (x, y) = random.uniform(40, 60), random.uniform(0, 4, 2)
        crop = _faces()[number % FACES].resize((SIDE, SIDE), Image.Resampling.BILINEAR, (x, y, x + side, y + side))
        place = folder / f"{number // 1000:04d}"
        place.mkdir(parents=True, exist_ok=True)
        crop.point([min(255, int(value * random.uniform(0.7, 1.3))) for value in range(256)] * 3).save(
            place / f"{number:07d}.jpg"
        )


class Command:
    """A verb of the command line as a process, whose parts are watched until it ends."""

    def __init__(self, verb: str, job: Path) -> None:
        self.process = psutil.Popen(
            [*COMMAND, verb, str(job)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
        )
        self.peaks: dict[str, float] = {}
        """Memory in MB by part: the most that one process of it had."""
        self.start = time.monotonic()

    def parts(self) -> Iterator[tuple[str, psutil.Process]]:
        """Processes of the run by their part in it."""
        if not self.process.is_running():
            return
        yield "driver", self.process
        yield from parts_below(self.process)

    def watch(self, until: Callable[[], bool] = lambda: False) -> float:
        """Wait until it ends or something is reached; seconds since it began."""
        while self.process.poll() is None and not until():
            for name, process in self.parts():
                with suppress(psutil.Error):
                    self.peaks[name] = max(self.peaks.get(name, 0), process.memory_info().rss / MEGABYTE)
            time.sleep(0.5)
        return time.monotonic() - self.start

    def finish(self) -> float:
        """Wait until it ends well; seconds since it began."""
        seconds = self.watch()
        assert self.process.returncode == 0, self.process.stderr.read().decode()
        return seconds

    def kill(self, part: str) -> None:
        """SIGKILL for a process of a part, as soon as there is one."""
        while self.process.poll() is None:
            for name, process in self.parts():
                if name == part:
                    process.send_signal(signal.SIGKILL)
                    return
            time.sleep(0.05)

    def end(self) -> None:
        """Nothing of it is left."""
        with suppress(ProcessLookupError):
            killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
