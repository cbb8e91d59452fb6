"""What `status` says of a run that is at work, and of one that was killed."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from uldscale import files
from uldscale.job import Job, identity_of
from uldscale.runs import RunFolder
from uldscale.stages.status import print_status

HOLDER = """
import sys, time
from uldscale.locks import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def run(small: dict[str, Any], tmp_path: Path) -> RunFolder:
    """A run that last spoke of its extraction."""
    job = Job.model_validate(small | {"output": str(tmp_path)})
    run = RunFolder.create(job.root, job.model_dump(mode="json"), identity_of)
    standing = {"stage": "zero_shot", "total": 90, "done": 40, "seconds": 10.0, "active": True, "time": 1.0}
    files.write_json(files.join(run.progress, "zero_shot.json"), standing)
    return run


def lines(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    print_status(run.root)
    return dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())


def test_a_killed_run_does_not_look_alive(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """The lock goes with the process, however that ends."""
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, run.root], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    alive = lines(run, capsys)
    assert alive["zero_shot"].startswith("40 of 90, 4/s, 0:12 left")
    assert alive["process"] == "at work: it holds the lock of the run"
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    dead = lines(run, capsys)
    assert dead["zero_shot"].startswith("40 of 90, broken off")
    assert dead["process"].startswith("none holds the lock of the run: nobody is at work on it")


def test_steps_are_those_of_the_job(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert lines(run, capsys)["d_uld"] == "not yet"


def test_the_runs_of_an_ablation(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """What they share comes first."""
    for seed in range(2):
        job = Job.model_validate(run.read_config() | {"output": run.root, "name": f"seed-{seed}"})
        RunFolder.create(job.root, job.model_dump(mode="json"), identity_of)
    print_status(run.root)
    said = [part.splitlines() for part in capsys.readouterr().out.split("\n\n")]
    assert [line.split()[0] for line in said[0]] == ["index", "codec", "extract"]
    assert [part[0] for part in said[1:]] == ["seed-0", "seed-1"]
    assert {"bootstrap", "process"} <= {line.split()[0] for line in said[2]}
