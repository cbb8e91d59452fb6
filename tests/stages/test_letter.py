"""The paper to the letter, as jobs/paper has it, runs from the images to the result."""

from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from uldscale.config import read_yaml
from uldscale.job import Job
from uldscale.pipeline import Pipeline
from uldscale.training.schedule import Stage

PAPER = Path(__file__).parents[2] / "jobs/paper"
LETTER = ("cooldown", "keypoints", "losses", "two_steps", "frozen_descriptor")


def test_jobs_of_the_paper_have_the_same_letter() -> None:
    letters = [read_yaml(str(path))["train"] for path in sorted(PAPER.glob("*.yaml"))]
    assert len(letters) == 4
    assert all(letter == letters[0] for letter in letters)


@pytest.fixture
def letter(settings: dict[str, Any]) -> Pipeline:
    """Long enough for D-ULD++ to begin where the step before it has ended."""
    train = read_yaml(str(PAPER / "mafl.yaml"))["train"]
    own = settings["train"]
    own |= {name: train[name] for name in LETTER}
    own["keypoints"] |= {"minimum": 6}
    own["clusters"] |= {"candidates": 1, "align": False}
    own["full_vae"] = own["mallis_d"] = own["d_uld_pp"]
    settings["extract"]["views"] = {"count": 3, "flip": True}
    return Pipeline(Job.model_validate(settings))


def test_a_run_to_the_letter_ends_with_every_method(letter: Pipeline) -> None:
    result = letter.run_all()
    wanted = {"zero_shot", "mallis_d", "d_uld", "d_uld_pose_proxy", "full_vae", "d_uld_pp"}
    assert set(result["methods"]) == wanted
    proxy, first, second = (
        descriptor_head(letter, stage) for stage in (Stage.POSE_PROXY, Stage.FULL_VAE, Stage.D_ULD_PP)
    )
    assert first != proxy, "the first step teaches the descriptor head"
    assert second == first, "the second begins there, and leaves it as it is"


def descriptor_head(pipeline: Pipeline, stage: Stage) -> dict[str, bytes]:
    weights = load_file(Path(pipeline.run.method(stage)) / "network.safetensors")
    return {name: values.tobytes() for name, values in weights.items() if name.startswith("descriptor.")}
