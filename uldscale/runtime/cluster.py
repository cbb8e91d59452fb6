"""Where a run runs: Ray on this machine or on a cluster, and the process group of the training workers."""

import logging
import os
import platform
import secrets
import signal
import sys
import threading
from typing import Any

import ray
import torch
import torch.distributed
from pydantic import Field

from uldscale.config import Settings
from uldscale.errors import ConfigError, IncompleteError
from uldscale.runtime.watch import NodeWatch

NAMESPACE = "uldscale"
_OBJECT_STORE_BYTES = 1 << 30
# Only a floor, so that a later run in the same process finds room without a new Ray.
_LOGICAL_CPUS = 16
# What one machine doesn't need and pays for with seconds: idle processes, a watcher for spot nodes, slow polls.
_LOCAL_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
}


_LATE = "node timed out during startup"


class RuntimeConfig(Settings):
    """Where and how wide a run runs; nothing here changes a result, so nothing here enters a fingerprint."""

    ray: bool = True
    """False: everything in this process, one thing after the other, whatever `actors` and `workers` say; for debuggers and small jobs."""
    actors: int = Field(default=1, ge=1)
    """Extraction actors."""
    cpus_per_actor: float = Field(default=1.0, ge=0)
    """CPUs that an actor reserves in Ray."""
    gpus_per_actor: float = Field(default=0.0, ge=0)
    """GPUs that an actor reserves; a fraction shares one."""
    threads_per_actor: int = Field(default=1, ge=1)
    """Threads of torch and BLAS in an actor; another number may change the last bits of features on a CPU."""
    workers: int = Field(default=1, ge=1)
    """Training workers, one process each."""
    gpus_per_worker: float = Field(default=0.0, ge=0)
    """GPUs of a training worker; 0 trains on CPU over gloo, otherwise NCCL."""
    threads_per_worker: int = Field(default=2, ge=1)
    """Threads of torch and BLAS in a training worker, and the CPUs that it reserves in Ray."""
    deadline_seconds: float = Field(default=3600.0, gt=0)
    """An actor that takes longer than this over one shard, or over its setup, is killed and replaced."""
    attempts: int = Field(default=3, ge=1)
    """How often an item is tried before the run gives it up."""
    gpus_for_clustering: float = Field(default=0.0, ge=0)
    """GPUs of the relabel service."""
    metrics_port: int | None = Field(default=None, ge=0, le=65535)
    """Port on which the driver offers its series to Prometheus; None: nowhere."""
    max_failures: int = Field(default=2, ge=0)
    """How often training restarts from its last checkpoint after a worker was lost."""


def connect(runtime: RuntimeConfig) -> None:
    """Connect this process to the Ray cluster of RAY_ADDRESS (`ray job submit` sets it), else to a Ray on this machine.

    Does nothing when already connected, or without Ray. Raises ConfigError when no cluster answers at RAY_ADDRESS,
    IncompleteError when this machine is too busy to start one.
    """
    if not runtime.ray:
        _end_like_ctrl_c()
        return
    if ray.is_initialized():
        return
    # Calls that a dead actor still held are tried elsewhere; nobody waits for their errors.
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
    quiet: dict[str, Any] = {"namespace": NAMESPACE, "log_to_driver": False, "logging_level": logging.ERROR}
    address = os.environ.get("RAY_ADDRESS")
    if address:
        _join(address, quiet)
    else:
        _start_here(runtime, quiet)
    _end_like_ctrl_c()
    _tell_idle_gpus(runtime)
    NodeWatch().start()


def _join(address: str, quiet: dict[str, Any]) -> None:
    try:
        ray.init(**quiet)
    except ConnectionError as error:
        raise ConfigError(
            f"no Ray cluster answers at RAY_ADDRESS={address!r}; give the address of a running one (with "
            "RAY_AUTH_MODE=token when it asks for tokens), or unset it to run on this machine"
        ) from error


def _start_here(runtime: RuntimeConfig, quiet: dict[str, Any]) -> None:
    for name, value in _LOCAL_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # Otherwise Ray writes a token to the home folder, which a container may not have.
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    _check_gpus(runtime)
    wanted = max(runtime.actors * runtime.cpus_per_actor, float(runtime.workers * runtime.threads_per_worker))
    # CPUs are only counted by Ray: fewer cores than that make a run slow, but must not make it wait for itself.
    cpus = max(os.cpu_count() or 1, _LOGICAL_CPUS, int(wanted) + 1)
    try:
        ray.init(
            address="local", num_cpus=cpus, include_dashboard=False, object_store_memory=_OBJECT_STORE_BYTES, **quiet
        )
    except Exception as error:
        # Ray waits for its own node for 30 s, and has no class for what it raises then.
        if _LATE not in str(error):
            raise
        raise IncompleteError(
            "Ray did not start on this machine within 30 s, which other processes may keep busy; run the same command again, "
            "or with runtime.ray=false"
        ) from error


def _end_like_ctrl_c() -> None:
    """Let SIGTERM, with which schedulers and `ray job stop` end a run, be an interrupt; Ray makes a crash of it, Python a sudden end."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def _check_gpus(runtime: RuntimeConfig) -> None:
    """On one machine a GPU that isn't there never comes; Ray would wait for it."""
    training = runtime.workers * runtime.gpus_per_worker + runtime.gpus_for_clustering
    wanted, there = max(runtime.actors * runtime.gpus_per_actor, training), torch.cuda.device_count()
    if wanted > there:
        raise ConfigError(
            f"runtime asks for {wanted:g} GPUs at once, but this machine has {there}; lower runtime.gpus_per_actor, "
            "runtime.gpus_per_worker and runtime.gpus_for_clustering, or set RAY_ADDRESS to a cluster that has them"
        )


def _tell_idle_gpus(runtime: RuntimeConfig) -> None:
    """A process that reserves no GPU sees none, so GPUs that nobody asks for stay idle."""
    there: float = ray.cluster_resources().get("GPU", 0.0)  # type: ignore[no-untyped-call]
    if there and not (runtime.gpus_per_actor or runtime.gpus_per_worker or runtime.gpus_for_clustering):
        sys.stderr.write(
            f"uldscale: this run leaves all GPUs of Ray idle ({there:g}); set runtime.gpus_per_actor=1 and "
            "runtime.gpus_per_worker=1 to use them\n"
        )


def rank() -> int:
    """Number of this training worker; 0 outside of a process group."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def world_size() -> int:
    """Number of training workers; 1 outside of a process group."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def device() -> torch.device:
    """The device of this process: its GPU when it was given one, else the CPU. Raises ConfigError when torch cannot use its GPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    if ray.is_initialized() and ray.get_runtime_context().get_accelerator_ids()["GPU"]:
        raise ConfigError(
            f"Ray gave this process a GPU on {platform.node()}, which torch {torch.__version__} cannot use; install a torch for "
            "the CUDA driver there, or set runtime.gpus_per_actor=0 and runtime.gpus_per_worker=0 to compute on CPUs"
        )
    return torch.device("cpu")


def barrier() -> None:
    """Wait until all training workers are here."""
    if world_size() > 1:
        torch.distributed.barrier()


def gather(tensor: torch.Tensor) -> torch.Tensor:
    """Rows of all ranks, in rank order: (n_rank, ...) to (sum of n_rank, ...). Every rank must call it.

    Differentiable: the gradient of a row is the sum of its gradients over the ranks. So when every rank computes the
    same loss of the gathered rows and gradients are then averaged over ranks, the result is the gradient that one
    process gets from the whole batch.
    """
    if world_size() == 1:
        return tensor
    counts = _counts(tensor)
    gathered: torch.Tensor = _Gather.apply(tensor, counts)  # type: ignore[no-untyped-call]
    return gathered


def _counts(tensor: torch.Tensor) -> list[int]:
    counts = torch.empty(world_size(), dtype=torch.int64, device=tensor.device)
    own = torch.tensor([len(tensor)], dtype=torch.int64, device=tensor.device)
    torch.distributed.all_gather_into_tensor(counts, own)
    return [int(count) for count in counts]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, tensor: torch.Tensor, counts: list[int]) -> torch.Tensor:
        context.counts = counts
        # Collectives want equal shapes, while ranks may differ in rows; and gloo knows few types, but bytes are bytes.
        padded = tensor.new_zeros((max(counts), *tensor.shape[1:]))
        padded[: len(tensor)] = tensor
        parts = [torch.empty_like(padded) for _ in counts]
        torch.distributed.all_gather([part.view(torch.uint8) for part in parts], padded.view(torch.uint8))
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        total = gradients[0].contiguous().clone()
        torch.distributed.all_reduce(total)
        return torch.split(total, context.counts)[rank()], None
