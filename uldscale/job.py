"""A job: everything that a run is, from one YAML file."""

from pydantic import Field

from uldscale import config
from uldscale.config import Settings
from uldscale.data.index import DataConfig
from uldscale.runtime.roles import RuntimeConfig
from uldscale.stages.evaluate import EvaluateConfig
from uldscale.stages.shard_worker import ExtractConfig
from uldscale.stages.zero_shot import ZeroShotConfig
from uldscale.training.schedule import TrainConfig


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

    @property
    def root(self) -> str:
        """The run folder."""
        return f"{self.output.rstrip('/')}/{self.name}"

    def identity(self) -> dict[str, object]:
        """The settings that decide what is computed; a run folder belongs to one identity."""
        return self.model_dump(mode="json", include={"data", "extract", "zero_shot", "train"})


def load_job(path: str, overrides: list[str]) -> Job:
    """The job in a YAML file with `key.sub=value` overrides. Raises ConfigError."""
    return config.load(Job, path, overrides)
