"""How much is said on standard error."""

import pytest

from uldscale.runtime import screen as screens
from uldscale.runtime.screen import LEVEL, patience, screen, warn


@pytest.mark.parametrize(
    ("level", "said"),
    [
        ("debug", "news\nwarning: look\n"),
        ("info", "news\nwarning: look\n"),
        ("warning", "warning: look\n"),
        ("error", ""),
    ],
)
def test_levels(level: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(LEVEL, level)
    screen().say("news")
    warn("look")
    assert capsys.readouterr().err == said


def test_who_waits_hears_something_at_once_and_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(screens, "LINE_SECONDS", 0.01)
    again = 0
    with patience("starting"):
        while again < 2:
            again += capsys.readouterr().err.count("starting")
    assert again >= 2
