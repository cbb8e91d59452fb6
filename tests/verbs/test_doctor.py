"""What the doctor says of real disks and processes."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from uldscale.errors import UserError
from uldscale.verbs import doctor
from uldscale.verbs.doctor import examine


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(doctor.constants, "ENDPOINT", "http://127.0.0.1:9")


def lines(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """By what they are about, with the mark."""
    return {line.split()[1]: line for line in capsys.readouterr().out.splitlines()}


def test_a_machine_on_which_jobs_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    examine(str(tmp_path))
    said = lines(capsys)
    assert said["locks"].startswith("ok")
    assert said["hub"].startswith("note")
    assert "models must be folders" in said["hub"]
    assert {"Python", "torch", "GPU", "CPU", "memory", "compiler", "disk", "Ray", *doctor.OPTIONAL} <= set(said)
    assert list(tmp_path.iterdir()) == []


def test_a_cluster_that_does_not_answer_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("uldscale.runtime.cluster.ANSWER_SECONDS", 0.5)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(UserError, match="1 of these must be put right"):
            examine(str(tmp_path))
    assert lines(capsys)["Ray"].startswith("FAULT")


def test_locks_that_do_nothing_are_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on a disk that takes every lock."""
    monkeypatch.setattr("fcntl.flock", lambda *_: None)
    with pytest.raises(UserError):
        examine(str(tmp_path))
    assert "locks do nothing there" in lines(capsys)["locks"]


def test_a_torch_that_cannot_be_imported(tmp_path: Path) -> None:
    said = "libcudart.so.12: cannot open shared object file"
    (tmp_path / "torch.py").write_text(f"raise ImportError({said!r})")
    done = subprocess.run(
        [sys.executable, "-m", "uldscale", "doctor"], env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(f"cannot be imported ({said}); install uldscale again, best in a fresh environment\n")
