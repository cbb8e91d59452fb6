"""Progress on a terminal and elsewhere."""

import io
import sys

import pytest

from uldscale.runtime import progress
from uldscale.runtime.progress import Progress


class Clock:
    """A clock that the test sets."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_elsewhere_a_line_every_ten_seconds(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("extract", 400) as bar:
        for _ in range(24):
            clock.now += 1.0
            bar.advance(10)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "extract: 100/400 (25 %), 10/s, 0:30 left",
        "extract: 200/400 (50 %), 10/s, 0:20 left",
        "extract: 240/400 (60 %), 10/s, 0:16 left",
    ]


def test_the_last_line_says_how_long_it_took(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("train", 3) as bar:
        clock.now += 3 * 3600 + 62
        bar.advance(3)
    assert capsys.readouterr().err.splitlines()[-1] == "train: 3/3 (100 %), 0.000276/s, 3:01:02 in all"


def test_nothing_done_is_no_rate(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), Progress("index", 5):
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "index: 0/5 (0 %), 0/s\n"


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    with Progress("extract", 4) as bar:
        bar.advance(4)
    assert "extract" in screen.getvalue()
    assert "4/4" in screen.getvalue()
    assert "/s" in screen.getvalue()
