"""What settings mean is what their classes say."""

import pytest

from uldscale.config import keys
from uldscale.errors import ConfigError
from uldscale.job import Job
from uldscale.training.schedule import TrainConfig
from uldscale.verbs.explain import entries, explain


def test_a_part(capsys: pytest.CaptureFixture[str]) -> None:
    explain("train.clusters")
    said = capsys.readouterr().out
    assert "train.clusters.landmarks  (whole number >= 2; default 10)\n    K, landmarks to discover." in said
    assert "train.clusters.gate  (true or false; default false)" in said


def test_defaults_are_those_of_the_part_and_not_of_its_class() -> None:
    """All stages have one class, and other defaults."""
    for stage in ("bootstrap", "d_uld_pp"):
        (entry,) = entries(f"train.{stage}.steps")
        assert entry.default == f"default {getattr(TrainConfig(), stage).steps}"


def test_without_a_key_the_parts_of_a_job() -> None:
    assert [entry.key for entry in entries(None)] == list(Job.model_fields)


def test_every_setting_can_be_explained() -> None:
    for key in keys(Job):
        assert entries(key)


def test_an_unknown_key_says_the_nearest() -> None:
    with pytest.raises(
        ConfigError, match=r"unknown key 'train.cluster.landmark'; did you mean 'train.clusters.landmarks'\?"
    ):
        explain("train.cluster.landmark")
