"""A job small enough for tests: generated faces, a diffusion model with random weights, every stage."""

from pathlib import Path
from typing import Any

import pytest

from uldscale.job import Job
from uldscale.pipeline import Pipeline


@pytest.fixture
def settings(small: dict[str, Any], tiny_model: str, tmp_path: Path) -> dict[str, Any]:
    """The settings of a small job, to be changed at will."""
    small["extract"]["features"]["backbone"] = {"model": tiny_model}
    return {**small, "output": str(tmp_path / "runs")}


@pytest.fixture(scope="session")
def finished() -> dict[str, Pipeline]:
    return {}


@pytest.fixture
def whole(settings: dict[str, Any], finished: dict[str, Pipeline]) -> Pipeline:
    """One finished run, at which tests of several files look; long enough to be ended several times."""
    if "whole" not in finished:
        settings["data"]["train"] = 40
        settings["extract"]["store"] = {"rows_per_shard": 1}
        settings["train"]["bootstrap"] = {"steps": 40, "learning_rate": 1e-4}
        pipeline = Pipeline(Job.model_validate(settings))
        pipeline.run_all()
        finished["whole"] = pipeline
    return finished["whole"]
