"""Fixtures for all tests."""

import os
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from uldscale.runtime.environment import stop_spinning

# Before torch is loaded: where tests and the processes that they start are more than the cores, spinning threads make them ten times
# as slow.
stop_spinning()

WITH_RAY = ("tests/runtime/", "tests/stages/", "tests/test_cli.py")


class RayInOneRow(LoadScopeScheduling):
    """Tests side by side (`--numprocesses 2`): those with Ray, which has processes enough, in one row, beside it file by file.

    By their places, since marks (`xdist_group`) never reach the scheduler: xdist 3.8 writes them into node ids, which pytest 9.2 ignores.
    """

    def _split_scope(self, nodeid: str) -> str:
        return "ray" if nodeid.startswith(WITH_RAY) else nodeid.split("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> RayInOneRow:
    return RayInOneRow(config, log)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real data and models beside the repository, or ULDSCALE_SHARED; the test is skipped without it."""
    folder = Path(os.environ.get("ULDSCALE_SHARED", Path(__file__).parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is not there (set ULDSCALE_SHARED)")
    return folder
