"""A run that is interrupted, or loses its Ray node, ends with one line and exit code 3; the same command goes on."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

COMMAND = [sys.executable, "-c", "from uldscale.cli import main; main()"]
INTERRUPTED = "uldscale: interrupted; the same command goes on from here"
LOST = "uldscale: the Ray node of this process has died; the same command goes on from here"


@pytest.fixture
def job(settings: dict[str, Any], tmp_path: Path) -> Path:
    """Fifty images, a shard each: it lasts until somebody ends it."""
    settings["data"] |= {"train": 40, "test": 10}
    settings["extract"]["store"] = {"rows_per_shard": 1}
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def started(verb: str, job: Path, marks: str) -> subprocess.Popen[str]:
    """A run that has left three marks."""
    process = subprocess.Popen([*COMMAND, verb, str(job)], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 150
    while len(list(job.parent.glob(f"runs/small/{marks}"))) < 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


def hold_actors(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Actors outlive their raylet for a while; they shall not finish the job meanwhile."""
    while not (actors := [child for child in below(process) if "ray::_Actor" in " ".join(child.cmdline())]):
        time.sleep(0.01)  # A process that changes its title has none for a moment.
    for actor in actors:
        actor.suspend()
    return actors


def kill(process: subprocess.Popen[str], server: str) -> None:
    next(child for child in below(process) if child.name() == server).kill()


def finish(verb: str, job: Path, *overrides: str) -> None:
    done = subprocess.run([*COMMAND, verb, str(job), *overrides], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def below(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


@pytest.fixture
def heard() -> Iterator[None]:
    """Programs that a shell starts in the background ignore Ctrl-C, and so do those that they start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_or_a_scheduler(job: Path, sign: signal.Signals) -> None:
    process = started("extract", job, "store.zarr/commits/*.json")
    process.send_signal(sign)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 3
    assert said.splitlines()[-1] == INTERRUPTED


@pytest.mark.parametrize("server", ["raylet", "gcs_server"])
def test_a_server_of_ray_dies(job: Path, server: str) -> None:
    """Left alone, Ray waits for the one as long as the deadline of an item, and has the other end the process as a bug."""
    process = started("extract", job, "store.zarr/commits/*.json")
    actors = hold_actors(process)
    kill(process, server)
    _, said = process.communicate(timeout=120)
    for actor in actors:
        actor.kill()
    assert process.returncode == 3
    assert LOST in said.splitlines()
    finish("extract", job)
    assert len(list((job.parent / "runs/small/store.zarr/commits").iterdir())) == 50


def test_an_actor_dies(job: Path) -> None:
    """It is replaced, and what it had in its hands is done again: the store is that of an undisturbed run."""
    process = started("extract", job, "store.zarr/commits/*.json")
    (actor,) = hold_actors(process)
    actor.kill()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    finish("extract", job, "name=undisturbed")
    assert content(job.parent / "runs/small/store.zarr") == content(job.parent / "runs/undisturbed/store.zarr")


def content(store: Path) -> dict[str, bytes]:
    """All files of a store, but those that say who wrote a shard and when."""
    paths = [path for path in store.rglob("*") if path.is_file() and "attempts" not in path.parts]
    return {str(path.relative_to(store)): path.read_bytes() for path in paths}


@pytest.fixture
def long_training(settings: dict[str, Any], job: Path) -> Path:
    settings["train"]["bootstrap"]["steps"] = 100_000
    settings["extract"]["store"] = {"rows_per_shard": 50}
    job.write_text(yaml.safe_dump(settings))
    return job


def test_a_scheduler_ends_training(long_training: Path) -> None:
    process = started("run", long_training, "checkpoints/*/state.json")
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 3
    assert said.splitlines()[-1] == INTERRUPTED


def test_the_raylet_dies_while_training(long_training: Path) -> None:
    process = started("run", long_training, "checkpoints/*/state.json")
    kill(process, "raylet")
    _, said = process.communicate(timeout=120)
    assert process.returncode == 3
    assert LOST in said.splitlines()
