"""Warnings at rest: what holds now, what is said once."""

import time
from pathlib import Path

import pytest

from uldscale.runs import RunFolder
from uldscale.runtime.screen import LEVEL
from uldscale.training import warnings
from uldscale.training.warnings import Symptom

FRAME, FEW = Symptom("frame", "they lie on the edge", "give more room"), Symptom("few", "few are there", "add some")


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(str(tmp_path))


def test_a_file_has_what_holds_now_and_the_log_all(run: RunFolder) -> None:
    warnings.tell(run, "schedule", [FEW])
    warnings.tell(run, "landmarks", [FRAME])
    assert warnings.read(run) == [FRAME, FEW]
    warnings.tell(run, "landmarks", [])
    assert warnings.read(run) == [FEW]
    assert [(event["source"], event["name"]) for event in run.read_metrics()] == [
        ("schedule", "few"),
        ("landmarks", "frame"),
    ]


def test_each_is_said_once_on_standard_error(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    warnings.tell(run, "landmarks", [FRAME], shown=False)
    assert capsys.readouterr().err == ""
    for _ in range(2):
        warnings.tell(run, "landmarks", [FRAME, FEW])
    assert capsys.readouterr().err == "uldscale: warning: few are there; add some\n"


def test_they_are_said_where_nothing_else_is(
    run: RunFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for level, said in (("warning", "uldscale: warning: few are there; add some\n"), ("error", "")):
        monkeypatch.setenv(LEVEL, level)
        warnings.tell(run, "schedule", [FEW])
        assert capsys.readouterr().err == said
        warnings.tell(run, "schedule", [])


def test_what_other_processes_find_is_said_here(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    warnings.tell(run, "schedule", [FEW], shown=False)
    with warnings.following(run):
        time.sleep(0)
        warnings.tell(run, "landmarks", [FRAME], shown=False)
    assert capsys.readouterr().err == "uldscale: warning: they lie on the edge; give more room\n"
