"""The Ray that a run runs on: that of a cluster, or one on this machine."""

import logging
import os
import platform
import secrets
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import grpc
import psutil
import ray
import torch
from ray._private.grpc_utils import init_grpc_channel
from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc
from ray.exceptions import AuthenticationError

from uldscale.errors import ConfigError, IncompleteError
from uldscale.runtime.roles import RuntimeConfig, Team
from uldscale.runtime.screen import level, patience, warn
from uldscale.runtime.watch import NodeWatch

NAMESPACE = "uldscale"
ANSWER_SECONDS = 20.0
"""How long the head of a cluster may take to say that it is there."""
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


STARTS = 3
"""Of Ray on this machine, if it is late: the second finds in memory what the first had to read."""
_LATE = "node timed out during startup"


def connect(runtime: RuntimeConfig) -> None:
    """Connect this process to the Ray cluster of RAY_ADDRESS (`ray job submit` sets it), else to a Ray on this machine.

    Does nothing when already connected, or without Ray. Raises ConfigError when no cluster answers at RAY_ADDRESS, or not to this
    token; IncompleteError when this machine is too busy to start one.
    """
    if not runtime.ray:
        _end_like_ctrl_c()
        return
    if ray.is_initialized():
        return
    # Calls that a dead actor still held are tried elsewhere; nobody waits for their errors.
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
    # Ray looks for a Ctrl-C once a second only, while `ray job stop` leaves three.
    os.environ.setdefault("RAY_get_check_signal_interval_milliseconds", "100")
    debug = level() <= logging.DEBUG
    quiet: dict[str, Any] = {"namespace": NAMESPACE, "log_to_driver": debug, "logging_level": logging.ERROR}
    if debug:
        quiet["logging_level"] = logging.DEBUG
    address = os.environ.get("RAY_ADDRESS")
    if address:
        _join(address, quiet)
    else:
        _start_here(runtime, quiet)
    _end_like_ctrl_c()
    _tell_idle_gpus(runtime)
    NodeWatch().start()


def join(runtime: RuntimeConfig) -> None:
    """Connect if RAY_ADDRESS names a cluster, whose Prometheus then sees what needs no Ray, too. Raises ConfigError like `connect`."""
    if os.environ.get("RAY_ADDRESS"):
        connect(runtime)


def _join(address: str, quiet: dict[str, Any]) -> None:
    with patience(f"joining the Ray cluster at {address}"), _telling(address):
        _ask_head(address)
        ray.init(**quiet)


def ask(address: str) -> None:
    """Whether a cluster answers there, to this token. Raises ConfigError when it does not."""
    with _telling(address):
        _ask_head(address)


@contextmanager
def _telling(address: str) -> Iterator[None]:
    try:
        yield
    except AuthenticationError as error:
        raise _refused(address, "has no token") from error
    except (ConnectionError, ValueError) as error:
        raise ConfigError(
            f"no Ray cluster answers at RAY_ADDRESS={address!r} ({_first_line(error)}); give the address of a running one, or unset it "
            "to run on this machine"
        ) from error


def _ask_head(address: str) -> None:
    """Ray's own first call goes on for minutes, whatever the head says, or does not say."""
    if address.startswith(("http://", "https://")):
        raise ConnectionError("that is a dashboard; wanted the address of a head, such as 10.0.0.5:6379, or auto")
    if address in ("auto", "local") or "://" in address:
        return
    if ":" not in address:
        raise ConnectionError("it has no port; wanted one such as 10.0.0.5:6379")
    head: Any = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(init_grpc_channel(address))  # type: ignore[no-untyped-call]
    question = gcs_service_pb2.CheckAliveRequest()  # type: ignore[attr-defined]
    try:
        head.CheckAlive(question, timeout=ANSWER_SECONDS, wait_for_ready=True)
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.UNAUTHENTICATED:
            raise _refused(address, "has another token, or none") from error
        raise ConnectionError(f"nothing within {ANSWER_SECONDS:g} s") from error


def _refused(address: str, has: str) -> ConfigError:
    return ConfigError(
        f"the Ray cluster at RAY_ADDRESS={address!r} asks for a token, and this process {has}; set RAY_AUTH_MODE=token with the "
        "cluster's own in RAY_AUTH_TOKEN, or in a file named by RAY_AUTH_TOKEN_PATH"
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _start_here(runtime: RuntimeConfig, quiet: dict[str, Any]) -> None:
    for name, value in _LOCAL_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # Otherwise Ray writes a token to the home folder, which a container may not have.
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    _check_gpus(runtime)
    teams = [role for role in runtime.roles.values() if isinstance(role, Team)]
    wanted = max(team.count * team.cpus for team in teams) + runtime.relabel.cpus
    # CPUs are only counted by Ray: fewer cores than that make a run slow, but must not make it wait for itself.
    cpus = max(os.cpu_count() or 1, _LOGICAL_CPUS, int(wanted) + 1)
    options: dict[str, Any] = {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
    before = set(psutil.Process().children(recursive=True))
    for start in range(STARTS):
        try:
            with patience("starting Ray on this machine" + (f", try {start + 1} of {STARTS}" if start else "")):
                ray.init(address="local", **options, **quiet)
            return
        except Exception as error:
            # Ray waits for its own node for 30 s, and has no class for what it raises then.
            if _LATE not in str(error):
                raise
            _end_others_than(before)
            late = error
    raise IncompleteError(
        f"Ray did not start on this machine within 30 s, {STARTS} times in a row, which other processes may keep busy; run the same "
        "command again, or with runtime.ray=false"
    ) from late


def _end_others_than(before: set[psutil.Process]) -> None:
    """End what a Ray that was late has left, or its next start would have to share the processors with it."""
    ray.shutdown()
    for child in set(psutil.Process().children(recursive=True)) - before:
        with suppress(psutil.NoSuchProcess):
            child.kill()


def _end_like_ctrl_c() -> None:
    """Let SIGTERM, with which schedulers and `ray job stop` end a run, be an interrupt; Ray makes a crash of it, Python a sudden end."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def _check_gpus(runtime: RuntimeConfig) -> None:
    """On one machine a GPU that isn't there never comes; Ray would wait for it."""
    training = runtime.train.count * runtime.train.gpus + runtime.relabel.gpus
    pools = [team.count * team.gpus for team in (runtime.extract, runtime.locate) if team]
    wanted, there = max(training, *pools), torch.cuda.device_count()
    if wanted > there:
        raise ConfigError(
            f"runtime asks for {wanted:g} GPUs at once, but this machine has {there}; lower gpus or count of runtime.extract, "
            "runtime.train, runtime.relabel and runtime.locate, or set RAY_ADDRESS to a cluster that has them"
        )


def _tell_idle_gpus(runtime: RuntimeConfig) -> None:
    """A process that reserves no GPU computes on none, so GPUs that nobody asks for stay idle."""
    there: float = ray.cluster_resources().get("GPU", 0.0)  # type: ignore[no-untyped-call]
    if there and not any(role.gpus for role in runtime.roles.values()):
        warn(
            f"this run leaves all GPUs of Ray idle ({there:g}); set runtime.extract.gpus=1, runtime.train.gpus=1 and "
            "runtime.locate.gpus=1 to use them"
        )


def device(gpus: float) -> torch.device:
    """The device of a process that was given so many GPUs, whatever the machine has: its GPU, or for 0 the CPU.

    Raises ConfigError when there is none that torch can use.
    """
    if not gpus:
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    raise ConfigError(
        f"this process was given a GPU on {platform.node()}, which torch {torch.__version__} cannot use; install a torch for "
        "the CUDA driver there, or set the gpus of its role in runtime to 0 to compute on CPUs"
    )
