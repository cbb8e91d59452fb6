"""A run that is ended from outside, or loses its Ray node, ends with one line and exit code 3; the same command goes on."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml

from uldscale.job import Job
from uldscale.pipeline import Pipeline
from uldscale.runs import RunFolder
from uldscale.training import checkpoints
from uldscale.training.schedule import Stage

pytestmark = pytest.mark.cluster

COMMAND = [sys.executable, "-c", "from uldscale.cli import main; main()", "run"]
INTERRUPTED = "uldscale: interrupted; the same command goes on from here"
LOST = "uldscale: the Ray node of this process has died; the same command goes on from here"
TOO_BUSY = "Ray did not start on this machine within 30 s"

SHARDS = "store.zarr/commits/*.json"
CHECKPOINTS = "checkpoints/*/state.json"


@pytest.fixture
def heard() -> Iterator[None]:
    """Programs that a shell starts in the background ignore Ctrl-C, and so do those that they start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
@pytest.mark.timeout(1200)
def test_a_run_ended_in_every_way(whole: Pipeline, content: Callable[[str], dict[str, bytes]], tmp_path: Path) -> None:
    """It goes on each time, and its store and its methods are those of a run that nobody ended, byte for byte."""
    on_ray = whole.job.runtime.updated(ray=True)
    job = whole.job.updated(output=str(tmp_path), runtime=on_ray.model_dump())
    run = Run(job, tmp_path)
    end_extraction(run)
    end_training(run)
    assert not (run.root / "result.json").exists()
    resumed = Pipeline(job.updated(runtime=whole.job.runtime.model_dump()))
    resumed.run_all()
    assert content(resumed.run.store) == content(whole.run.store)
    assert content(resumed.run.methods) == content(whole.run.methods)


def end_extraction(run: "Run") -> None:
    """By Ctrl-C where there is no Ray."""
    process = run.until(SHARDS, "runtime.ray=false")
    process.send_signal(signal.SIGINT)
    assert ended(process)[-1] == INTERRUPTED


def end_training(run: "Run") -> None:
    """By the loss of the node, after extraction has lost its actor; by a scheduler; by SIGKILL."""
    process = run.until(SHARDS)
    (actor,) = hold_actors(process)
    actor.kill()
    run.wait(process, CHECKPOINTS)
    started = below(process)
    kill(process, "raylet")
    assert LOST in ended(process)
    # Workers outlive it for a moment, and their last checkpoint would be taken for one of the next process.
    for child in started:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    process = run.until(CHECKPOINTS)
    process.terminate()
    assert ended(process)[-1] == INTERRUPTED
    # It wrote a checkpoint of its last step first.
    step = [event for event in RunFolder(str(run.root)).read_metrics() if event["event"] == "step"][-1]
    assert checkpoints.steps(f"{run.root}/checkpoints")[Stage(step["stage"])] == step["step"]
    process = run.until(CHECKPOINTS, "runtime.ray=false")
    process.kill()
    process.communicate()


class TooBusy(Exception):
    """A run ended before it could be ended, since its Ray took too long to start."""


class Run:
    """A job in processes of its own."""

    def __init__(self, job: Job, folder: Path) -> None:
        self.root, self._job = folder / job.name, folder / "job.yaml"
        self._job.write_text(yaml.safe_dump(job.model_dump(mode="json")))

    def until(self, marks: str, *overrides: str) -> subprocess.Popen[str]:
        """A process that has left a new mark; on a machine that is too busy for Ray the same command goes on."""
        process = subprocess.Popen([*COMMAND, str(self._job), *overrides], stderr=subprocess.PIPE, text=True)
        try:
            self.wait(process, marks)
        except TooBusy:
            return self.until(marks, *overrides)
        return process

    def wait(self, process: subprocess.Popen[str], marks: str) -> None:
        """Until there is a new mark; checkpoints are few, since old ones go."""
        before = set(self.root.glob(marks))
        while not set(self.root.glob(marks)) - before:
            if process.poll() is not None:
                said = process.communicate()[1]
                assert process.returncode == 3, said
                assert TOO_BUSY in said
                raise TooBusy
            time.sleep(0.05)


def ended(process: subprocess.Popen[str]) -> list[str]:
    """What a run said that ends with exit code 3."""
    _, said = process.communicate()
    assert process.returncode == 3, said
    return said.splitlines()


def hold_actors(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Actors outlive their raylet for a while; they shall not finish the store meanwhile."""
    while not (actors := [child for child in below(process) if "ray::_Actor" in " ".join(child.cmdline())]):
        time.sleep(0.01)  # A process that changes its title has none for a moment.
    for actor in actors:
        actor.suspend()
    return actors


def kill(process: subprocess.Popen[str], server: str) -> None:
    next(child for child in below(process) if child.name() == server).kill()


def below(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)
