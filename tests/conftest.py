"""Fixtures for all tests."""

import os
from pathlib import Path

import pytest

from uldscale.runtime.environment import stop_spinning

# Before torch is loaded: where tests and the processes that they start are more than the cores, spinning threads make them ten times
# as slow.
stop_spinning()


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real data and models beside the repository, or ULDSCALE_SHARED; the test is skipped without it."""
    folder = Path(os.environ.get("ULDSCALE_SHARED", Path(__file__).parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is not there (set ULDSCALE_SHARED)")
    return folder
