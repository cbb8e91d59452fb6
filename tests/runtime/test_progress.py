"""How far a stage is: on a terminal, elsewhere, and for other processes."""

import io
import sys
import time
from pathlib import Path

import pytest

from uldscale.runtime import progress, screen
from uldscale.runtime.following import following
from uldscale.runtime.progress import Progress, Standing, read
from uldscale.runtime.screen import Bars, Lines
from uldscale.runtime.telemetry import REGISTRY


def gauge(name: str, **labels: str) -> float | None:
    tags = {"run": "", **labels}
    return next((s.value for f in REGISTRY.collect() for s in f.samples if (s.name, s.labels) == (name, tags)), None)


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


def test_elsewhere_a_line_at_once_and_every_ten_seconds_whatever_moves(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    for second in range(25):
        lines.show(Standing("extract", 400, done=10 * min(second, 12), seconds=float(second)), last=False)
    lines.show(Standing("extract", 400, done=400, seconds=3 * 3600 + 62, active=False), last=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "extract: 0/400 (0 %)",
        "extract: 100/400 (25 %), 10/s, 0:30 left",
        "extract: 120/400 (30 %), 6/s, 0:47 left",
        "extract: 400/400 (100 %), 0.0368/s, 3:01:02 in all",
    ]


def test_the_pace_is_that_of_the_process_that_took_it_up() -> None:
    resumed = Standing("d_uld", 1000, done=700, begun=600, seconds=50.0, note="loss 0.5")
    assert resumed.line() == "d_uld: 700/1000 (70 %), 2/s, 2:30 left, loss 0.5"
    assert Standing("d_uld", 1000, done=600, begun=600, seconds=50.0).left is None


def test_nothing_done_is_no_rate(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), Progress("index", 5):
        raise KeyboardInterrupt
    assert capsys.readouterr().err == 2 * "index: 0/5 (0 %)\n"


def test_stages_within_another_share_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, bars = Screen(), Bars()
    monkeypatch.setattr(sys, "stderr", terminal)
    bars.show(Standing("d_uld", 160, done=80, seconds=8.0, note="loss 0.5"), last=False)
    bars.show(Standing("relabel", 500, done=500, seconds=2.0), last=False)
    bars.say("waiting for 30 s")
    bars.show(Standing("relabel", 500, done=500, seconds=2.0), last=True)
    bars.show(Standing("d_uld", 160, done=160, seconds=16.0), last=True)
    shown = terminal.getvalue()
    assert all(words in shown for words in ("d_uld", "160/160", "relabel", "500/500", "10/s", "waiting for 30 s"))


def test_a_silent_stage_is_told_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(screen, "LINE_SECONDS", 0.2)
    monkeypatch.setattr(progress, "TICK_SECONDS", 0.05)
    with Progress("codec", 9):
        time.sleep(0.7)
    assert len(capsys.readouterr().err.splitlines()) >= 3


def test_others_read_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "TICK_SECONDS", 0.05)
    monkeypatch.setattr(progress, "FILE_SECONDS", 0.05)
    assert read(str(tmp_path)) == []
    with Progress("locate", 40, str(tmp_path), done=10, shown=False) as told:
        told.advance(6, "d_uld")
        time.sleep(0.3)
        (there,) = read(str(tmp_path))
        assert (there.stage, there.done, there.begun, there.total, there.note) == ("locate", 16, 10, 40, "d_uld")
        assert there.active
        assert gauge("uldscale_stage_done", stage="locate") == 16
        assert gauge("uldscale_stage_active", stage="locate") == 1
    assert not read(str(tmp_path))[0].active
    assert gauge("uldscale_stage_active", stage="locate") == 0
    assert gauge("uldscale_stage_size", stage="locate") == 40


def test_a_full_disk_is_told_by_the_stage_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(progress, "TICK_SECONDS", 0.05)
    monkeypatch.setattr(progress, "FILE_SECONDS", 0.0)
    told = Progress("extract", 4, str(tmp_path), shown=False)
    told.__enter__()
    monkeypatch.setattr("uldscale.files.write_json", full)
    time.sleep(0.3)
    with pytest.raises(OSError, match="No space left"):
        told.__exit__(None, None, None)


def test_stages_of_other_processes_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress("extract", 3, str(tmp_path), shown=False):
        pass
    time.sleep(0.1)
    monkeypatch.setattr("uldscale.runtime.following.LINE_SECONDS", 0.5)
    with following("train", str(tmp_path), ["bootstrap", "relabel"]):
        time.sleep(1.2)
        with Progress("bootstrap", 3, str(tmp_path), shown=False) as told:
            told.advance(3, "loss 1.5")
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("train: no word of its workers for ")
    assert said[-1].startswith("bootstrap: 3/3 (100 %)")
    assert said[-1].endswith("loss 1.5")
    assert not any("extract" in line for line in said)
