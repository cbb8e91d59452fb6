"""A job: everything that a run is, from one YAML file."""

import os
from typing import Any

from pydantic import Field, ValidationError, model_validator

from uldscale import config
from uldscale.config import Settings
from uldscale.data.index import DataConfig
from uldscale.runtime.roles import RuntimeConfig
from uldscale.stages.evaluate import EvaluateConfig
from uldscale.stages.shard_worker import ExtractConfig
from uldscale.stages.zero_shot import ZeroShotConfig
from uldscale.training.schedule import TrainConfig

_FREE = {"log_every", "checkpoint_every", "keep_rounds"}
"""Settings of training that change no result."""


class Job(Settings):
    """One run: what it reads, how it learns, where it runs."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Names the run folder `<output>/<name>`."""
    output: str = "runs"
    data: DataConfig
    extract: ExtractConfig = ExtractConfig()
    zero_shot: ZeroShotConfig = ZeroShotConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    runtime: RuntimeConfig = RuntimeConfig()

    @model_validator(mode="before")
    @classmethod
    def _whole_batch(cls, settings: Any) -> Any:
        """`train.batch_per_worker` said as `train.batch`: with another number of workers it would be another run."""
        train = settings.get("train") if isinstance(settings, dict) else None
        if not isinstance(train, dict) or "batch_per_worker" not in train:
            return settings
        if "batch" in train:
            raise ValueError("train.batch and train.batch_per_worker say the same thing; give one of them")
        if not isinstance(train["batch_per_worker"], int):
            raise ValueError(f"train.batch_per_worker must be a whole number, got {train['batch_per_worker']!r}")
        workers = RuntimeConfig.model_validate(settings.get("runtime", {})).train.count
        others = {name: value for name, value in train.items() if name != "batch_per_worker"}
        return {**settings, "train": {**others, "batch": train["batch_per_worker"] * workers}}

    @property
    def root(self) -> str:
        """The run folder."""
        return f"{os.path.expanduser(self.output).rstrip('/')}/{self.name}"

    def identity(self) -> dict[str, Any]:
        """The settings that decide what is computed; a run folder belongs to one identity. The store itself says whether it is the right
        one, wherever it is.
        """
        return self.model_dump(
            mode="json",
            include={"data", "extract", "zero_shot", "train"},
            exclude={"train": _FREE, "extract": {"store": {"root"}}},
        )


def identity_of(settings: dict[str, Any]) -> dict[str, Any]:
    """`Job.identity` of the settings of a run folder: what they lack came later, and has its default.

    Settings that are no job any more are their own identity.
    """
    try:
        return Job.model_validate(settings).identity()
    except ValidationError:
        return settings


def load_job(path: str, overrides: list[str]) -> Job:
    """The job in a YAML file with `key.sub=value` overrides. Raises ConfigError."""
    return config.load(Job, path, overrides)
