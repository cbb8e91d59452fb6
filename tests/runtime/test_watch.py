"""The watch over Ray: what ends a process, in a process that can be ended."""

import subprocess
import sys

import pytest

from uldscale.errors import IncompleteError

pytestmark = pytest.mark.cluster

SCRIPT = """
import time
import ray
from uldscale.runtime import cluster, roles, watch
{trouble}
watch.WATCH_SECONDS, watch.SILENT_ROUNDS = 0.2, 3
cluster.connect(roles.RuntimeConfig())
time.sleep({seconds})
"""
REFUSES = """
def refuse():
    raise ray.exceptions.RaySystemError("no connection")
watch.living_nodes = refuse
"""
TROUBLES = {
    "another node": "watch.living_nodes = lambda: {'somebody'}",
    "silence": "watch.living_nodes = lambda: time.sleep(600)",
    "refusal": REFUSES,
}


def run(trouble: str, seconds: float) -> subprocess.CompletedProcess[str]:
    script = SCRIPT.format(trouble=trouble, seconds=seconds)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_lost_head_ends_the_process(trouble: str) -> None:
    done = run(TROUBLES[trouble], 100)
    assert done.returncode == IncompleteError.exit_code
    assert done.stderr.splitlines()[-1] == (
        "uldscale: the Ray node of this process has died; the same command goes on from here"
    )


def test_a_ray_that_answers_is_left_in_peace() -> None:
    done = run("", 3)
    assert done.returncode == 0
    assert all(line.startswith("starting Ray on this machine") for line in done.stderr.splitlines()), done.stderr
