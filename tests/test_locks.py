"""Locks of a run, between real processes."""

import subprocess
import sys
from pathlib import Path

import pytest

from uldscale.errors import IncompleteError
from uldscale.locks import locked

HOLD = """
import sys, time
from uldscale.locks import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


def test_two_processes_do_not_work_on_one_run(tmp_path: Path) -> None:
    """A lock of a process that was killed holds nobody up; one that ends by an error neither."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(IncompleteError, match="another process is at work on .*; run the same command again"),
            locked(str(tmp_path)),
        ):
            pass
        other.kill()
    with pytest.raises(KeyError), locked(str(tmp_path)):
        raise KeyError
    with locked(str(tmp_path)):
        pass
