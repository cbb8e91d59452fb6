"""Roles: what the processes of a run ask of the cluster; the one place that turns settings into Ray's options.

extract    actors that fill the feature store
train      training workers, which share a process group
relabel    the service that clusters what all workers found
locate     actors that find the landmarks of a method on stored features
"""

from typing import Any, Self

from pydantic import Field, model_validator

from uldscale.config import Settings
from uldscale.runtime import environment, telemetry
from uldscale.runtime.cache import CacheConfig

LABEL = "uldscale.role"
"""Label of the nodes of a role; see `Role.node`."""

_RENAMED = {
    "actors": "extract.count",
    "cpus_per_actor": "extract.cpus",
    "gpus_per_actor": "extract.gpus",
    "threads_per_actor": "extract.threads",
    "workers": "train.count",
    "gpus_per_worker": "train.gpus",
    "threads_per_worker": "train.threads and runtime.train.cpus",
    "gpus_for_clustering": "relabel.gpus",
}


class Role(Settings):
    """What one process of a role reserves in Ray, and where it may run."""

    cpus: float = Field(default=1.0, ge=0)
    """CPUs."""
    gpus: float = Field(default=0.0, ge=0, le=1)
    """GPUs; a fraction shares one, 0 computes on the CPU whatever the machine has."""
    threads: int = Field(default=1, ge=1)
    """Threads of torch and BLAS; another number may change the last bits of features on a CPU."""
    memory_gib: float | None = Field(default=None, gt=0)
    """Memory in GiB; None: not counted."""
    node: str | None = None
    """Only nodes with the label `uldscale.role=<node>` will do; None: any."""

    @property
    def wants(self) -> str:
        """What a process reserves, in words."""
        parts = [f"{self.cpus:g} CPUs", f"{self.gpus:g} GPUs"]
        if self.memory_gib:
            parts.append(f"{self.memory_gib:g} GiB of memory")
        if self.node:
            parts.append(f"a node with the label {LABEL}={self.node}")
        return ", ".join(parts)

    @property
    def resources(self) -> dict[str, float]:
        """What a process reserves, in Ray's words and units."""
        memory = {"memory": int(self.memory_gib * 2**30)} if self.memory_gib else {}
        return {"CPU": self.cpus, **({"GPU": self.gpus} if self.gpus else {}), **memory}

    @property
    def labels(self) -> dict[str, str] | None:
        """Ray's selector of nodes; None: any."""
        return {LABEL: self.node} if self.node else None

    @property
    def variables(self) -> dict[str, str]:
        """Environment of a process."""
        return environment.of_worker(self.threads, self.gpus) | telemetry.variables()

    def options(self) -> dict[str, Any]:
        """Options of a Ray actor in this role."""
        return {
            "num_cpus": self.cpus,
            "num_gpus": self.gpus,
            "memory": self.resources.get("memory"),
            "label_selector": self.labels,
            "runtime_env": {"env_vars": self.variables},
        }


class Team(Role):
    """A role with any number of equal processes."""

    count: int = Field(default=1, ge=1)
    """Processes."""


class Workers(Team):
    """Training workers."""

    least: int | None = Field(default=None, ge=1)
    """Fewest workers that train on while others have no place; None: as many as `count`. The result is the same up to rounding."""

    cpus: float = Field(default=2.0, ge=0)
    """CPUs."""
    gpus: float = Field(default=0.0, ge=0, le=1)
    """GPUs: 0 trains on CPUs over gloo, 1 over NCCL."""
    threads: int = Field(default=2, ge=1)
    """Threads of torch and BLAS."""

    @model_validator(mode="after")
    def _whole_gpus(self) -> Self:
        if self.gpus not in (0, 1):
            raise ValueError(f"gpus must be 0 or 1, since a training worker has one device, got {self.gpus:g}")
        return self

    @model_validator(mode="after")
    def _a_range(self) -> Self:
        if self.least is not None and self.least > self.count:
            raise ValueError(f"least must be at most count = {self.count}, got {self.least}")
        return self


class RuntimeConfig(Settings):
    """Where and how wide a run runs; nothing here changes a result, so nothing here enters a fingerprint."""

    ray: bool = True
    """False: everything in this process, one thing after the other, whatever the roles say of CPUs; for debuggers and small jobs."""
    extract: Team = Team()
    train: Workers = Workers()
    relabel: Role = Role()
    locate: Team | None = None
    """None: the process that leads the run finds landmarks itself, one image after the other."""
    cache: CacheConfig | None = None
    """Where each node keeps the features that its processes have read from a bucket; None: nowhere."""
    deadline_seconds: float = Field(default=3600.0, gt=0)
    """An actor that takes longer than this over one item, or over its setup, is killed and replaced."""
    wait_seconds: float = Field(default=3600.0, gt=0)
    """How long a run waits for CPUs, GPUs, memory or nodes before it ends with exit code 3."""
    attempts: int = Field(default=3, ge=1)
    """How often an item is tried before the run gives it up."""
    max_failures: int = Field(default=2, ge=0)
    """How often training restarts without a new checkpoint in between, after workers were lost."""
    metrics_port: int | None = Field(default=None, ge=0, le=65535)
    """Port on which the driver offers its series to Prometheus, beside Ray's own port; None: nowhere."""
    metrics_host: str = "127.0.0.1"
    """Address of that port; "" means all of this machine."""

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, settings: Any) -> Any:
        for old in _RENAMED if isinstance(settings, dict) else ():
            if old in settings:
                raise ValueError(f"runtime.{old} is now runtime.{_RENAMED[old]}")
        return settings

    @property
    def roles(self) -> dict[str, Role]:
        """The roles that ask for something of their own."""
        known = {"extract": self.extract, "train": self.train, "relabel": self.relabel, "locate": self.locate}
        return {name: role for name, role in known.items() if role is not None}
