"""A process that is told to stop asks its training workers first."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from uldscale.runtime import stopping
from uldscale.runtime.stopping import Stopping


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_interrupt_asks_and_the_block_may_end_by_itself(number: int, tmp_path: Path) -> None:
    before = signal.getsignal(number)
    asked = Stopping(str(tmp_path / "stop"))
    threading.Timer(0.2, os.kill, (os.getpid(), number)).start()
    with asked.at_interrupts():
        assert not asked.wanted()
        deadline = time.monotonic() + 10
        while not asked.wanted():
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert not asked.wanted()
    assert signal.getsignal(number) is before


def test_a_block_that_does_not_end_is_interrupted_soon(tmp_path: Path) -> None:
    """Before `ray job stop` kills: three seconds after its SIGTERM."""
    asked = Stopping(str(tmp_path / "stop"))
    start = time.monotonic()
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(KeyboardInterrupt), asked.at_interrupts():
        time.sleep(60)
    assert time.monotonic() - start < 60
    assert stopping.GRACE_SECONDS < 3


def test_the_second_interrupt_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "GRACE_SECONDS", 600)
    for delay in (0.2, 0.4):
        threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt), Stopping(str(tmp_path / "stop")).at_interrupts():
        time.sleep(60)


def test_a_request_of_an_earlier_process_counts_no_more(tmp_path: Path) -> None:
    asked = Stopping(str(tmp_path / "stop"))
    (tmp_path / "stop").touch()
    with asked.at_interrupts():
        assert not asked.wanted()
