"""What a run cannot be trained with is told before its features are computed."""

from pathlib import Path
from typing import Any

import pytest

from uldscale.errors import ConfigError, DataError, UserError
from uldscale.job import Job
from uldscale.pipeline import Pipeline
from uldscale.training.schedule import TrainConfig


@pytest.mark.parametrize(
    ("place", "value", "kind", "message"),
    [
        (("train", "batch"), 20, DataError, "16 usable training images are fewer than train.batch = 20"),
        (
            ("train", "clusters", "poses"),
            17,
            DataError,
            "16 usable training images are fewer than two for each of train.clusters.poses = 17",
        ),
        (("extract", "views", "count"), 1, ConfigError, "extract.views.count=1; set it to 2 or more"),
        (("evaluate", "shown"), ["9pt-all"], ConfigError, "68 annotated points have no protocol '9pt-all'"),
        (
            ("runtime", "train"),
            {"count": 5},
            ConfigError,
            "train.batch=4 leaves workers without an image, got runtime.train.count=5",
        ),
        (
            ("runtime", "relabel"),
            {"memory_gib": 0.5},
            ConfigError,
            r"the relabel service will hold 0.7 GiB .* got runtime.relabel.memory_gib=0.5",
        ),
    ],
)
def test_what_cannot_be_trained(
    place: tuple[str, ...], value: Any, kind: type[UserError], message: str, settings: dict[str, Any]
) -> None:
    inner = settings
    for name in place[:-1]:
        inner = inner.setdefault(name, {})
    inner[place[-1]] = value
    pipeline = Pipeline(Job.model_validate(settings))
    with pytest.raises(kind, match=message):
        pipeline.run_all()
    assert not Path(pipeline.run.store).exists()


@pytest.mark.parametrize("stage", ["d_uld", "d_uld_pp", "full_vae", "mallis_d", "control"])
def test_a_stage_about_labels_makes_some(stage: str) -> None:
    with pytest.raises(ValueError, match=f"train.{stage}.relabel_every must be given"):
        TrainConfig.model_validate({stage: {"steps": 4, "learning_rate": 1e-3}})


def test_a_batch_is_said_as_a_share_of_a_worker(settings: dict[str, Any]) -> None:
    """It is the batch of the run then, whatever the workers are later."""
    del settings["train"]["batch"]
    settings["train"]["batch_per_worker"] = 3
    settings["runtime"]["train"] = {"count": 4}
    assert Job.model_validate(settings).train.batch == 12
    settings["train"]["batch"] = 12
    with pytest.raises(ValueError, match=r"train.batch and train.batch_per_worker say the same thing"):
        Job.model_validate(settings)
