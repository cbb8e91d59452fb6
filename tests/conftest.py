"""Fixtures for all tests."""

import os
from pathlib import Path

import pytest

from uldscale.runtime.environment import stop_spinning

# Before torch is loaded: where tests and the processes that they start are more than the cores, spinning threads make them ten times
# as slow.
stop_spinning()

WITH_RAY = ("runtime", "stages", "test_cli.py")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Side by side (`--dist loadgroup`): tests with Ray, which has processes enough, in one row; each other file as a whole."""
    for item in items:
        room = item.path.relative_to(Path(__file__).parent).parts[0]
        item.add_marker(pytest.mark.xdist_group("ray" if room in WITH_RAY else str(item.path)))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real data and models beside the repository, or ULDSCALE_SHARED; the test is skipped without it."""
    folder = Path(os.environ.get("ULDSCALE_SHARED", Path(__file__).parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is not there (set ULDSCALE_SHARED)")
    return folder
