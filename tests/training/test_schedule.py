"""Lengths in steps and in epochs, and the stretches between two moments at which something else happens."""

from typing import Any

import pytest

from uldscale import config as settings
from uldscale.errors import ConfigError
from uldscale.training.schedule import Length, Stage, TrainConfig

LABELLED = {"epochs": 6, "learning_rate": 1e-3, "relabel_epochs": 1.5}


def made(**more: Any) -> TrainConfig:
    return settings.validate(TrainConfig, {"batch": 16, **more}, "job.yaml")


@pytest.mark.parametrize(
    ("images", "steps", "every"), [(500, 188, 47), (484, 182, 46), (230_000, 86_250, 21_563), (16, 6, 2)]
)
def test_one_job_serves_few_and_many_images(images: int, steps: int, every: int) -> None:
    """No round is made for the last two of 182 steps, as every 45 of them would."""
    config = made(d_uld=LABELLED, d_uld_pp={"steps": 7, "learning_rate": 1e-3, "relabel_every": 3}).in_steps(images)
    assert config.of(Stage.D_ULD) == Length(steps, 1e-3, every)
    assert config.of(Stage.D_ULD_PP) == Length(7, 1e-3, 3)
    assert config.in_steps(1) == config


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        ({"steps": 5, **LABELLED}, "wanted either steps or epochs, got both"),
        ({"learning_rate": 1e-3, "relabel_every": 2}, "wanted either steps or epochs, got neither"),
        ({"relabel_every": 2, **LABELLED}, "relabel_every and relabel_epochs say the same thing"),
        ({"epochs": 6, "learning_rate": 1e-3}, "train.d_uld.relabel_every must be given, or relabel_epochs"),
    ],
)
def test_a_length_is_said_once(stage: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        made(d_uld=stage)


def stretches(overlap: int, start: int = 0) -> list[tuple[int, int]]:
    stage = {"steps": 20, "learning_rate": 1e-3, "relabel_every": 8}
    config = made(d_uld=stage, d_uld_pp=stage, checkpoint_every=6, overlap=overlap)
    return [(steps.start, steps.stop) for steps in config.stretches(Stage.D_ULD, start)]


def test_training_stops_for_checkpoints_and_rounds() -> None:
    assert stretches(0) == [(0, 6), (6, 8), (8, 12), (12, 16), (16, 18), (18, 20)]
    assert stretches(0, start=7) == [(7, 8), (8, 12), (12, 16), (16, 18), (18, 20)]


def test_there_is_no_checkpoint_while_a_round_is_fitted() -> None:
    """Rounds begin at steps 8 and 16 and end five steps later, or with the stage."""
    assert stretches(5) == [(0, 6), (6, 8), (8, 13), (13, 16), (16, 20)]


def test_one_round_is_fitted_at_a_time() -> None:
    with pytest.raises(ConfigError, match="train.overlap must be less than train.d_uld.relabel_every=8, got 8"):
        stretches(8)


def test_rounds_in_epochs_that_are_too_near_are_one_line() -> None:
    config = TrainConfig.model_validate(
        {"batch": 10, "overlap": 40, "d_uld": {"epochs": 3, "learning_rate": 1e-3, "relabel_epochs": 1}}
    )
    with pytest.raises(ConfigError, match="^100 training images: .*train.overlap must be less than .*relabel_every=10"):
        config.in_steps(100)


def test_bootstrap_makes_no_labels() -> None:
    with pytest.raises(ConfigError, match="train.bootstrap makes no labels; leave out its relabel_every"):
        settings.validate(
            TrainConfig, {"bootstrap": {"steps": 3, "learning_rate": 1e-3, "relabel_every": 2}}, "job.yaml"
        )


def test_with_two_steps_the_last_stage_begins_where_the_full_vae_ended() -> None:
    stage = {"steps": 3, "learning_rate": 1e-3, "relabel_every": 2}
    config = made(full_vae=stage, d_uld_pp=stage, two_steps=True)
    assert config.stages[-2:] == [Stage.FULL_VAE, Stage.D_ULD_PP]
    assert config.parent(Stage.D_ULD_PP) is Stage.FULL_VAE
    assert made(d_uld_pp=stage).parent(Stage.D_ULD_PP) is Stage.POSE_PROXY
    with pytest.raises(ConfigError, match="train.two_steps needs train.full_vae"):
        made(d_uld_pp=stage, two_steps=True)
