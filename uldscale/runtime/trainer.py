"""Training workers: Ray Train around a loop that finds its own checkpoints.

Laws: a lost worker costs the steps since the last checkpoint; an error of the loop comes out as it is.
"""

import functools
import os
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import ray
import torch
from ray.exceptions import GetTimeoutError, RayError
from ray.train import (
    ControllerError,
    FailureConfig,
    RunConfig,
    ScalingConfig,
    TrainingFailedError,
    UserCallback,
)
from ray.train.torch import TorchConfig, TorchTrainer, get_device

from uldscale import files
from uldscale.errors import IncompleteError
from uldscale.runtime import telemetry
from uldscale.runtime.placement import watching_placement
from uldscale.runtime.roles import RuntimeConfig
from uldscale.runtime.stopping import Stopping

Loop = Callable[[dict[str, Any]], None]

TRANSIENT = (RuntimeError, OSError)
"""What gloo, NCCL, CUDA and storage raise, also on ranks that outlive a lost one; others come on every attempt."""
SILENT_SECONDS = 5
"""Without an answer of the controller it is taken to wait for places."""
_WAITING = ("InitializingState", "SchedulingState", "ReschedulingState")
GROWTH_SECONDS = 60.0
"""Between two looks whether more workers than there are have a place; they start again when that is so."""
ABORT_SECONDS = 10.0
"""How long Ray Train may take to end its workers after an interrupt."""


def fit(
    loop: Loop,
    config: dict[str, Any],
    *,
    storage: str,
    name: str,
    runtime: RuntimeConfig,
    marks: Callable[[], object],
    stopping: Stopping,
) -> None:
    """Run `loop(config)` on `runtime.train.count` workers, or `least`, that share a process group (NCCL with GPUs, else gloo).

    When a worker is lost, or the loop raises one of TRANSIENT, all workers start again; the loop goes on from the checkpoints
    that it wrote. After more than `runtime.max_failures` times with the same `marks()`, which change with every checkpoint, that
    is the end. `storage` is a folder that all machines see; Ray keeps its notes in `<storage>/<name>` while it runs. An interrupt
    asks the loop to stop by `stopping`, and ends it when it has not done so after a moment. This process must be connected
    (cluster.connect).

    Raises what the loop raised; IncompleteError when workers were lost too often, or found no place in time.
    """
    storage = os.path.abspath(storage) if files.is_local(storage) else storage
    notes = files.join(storage, name)
    # Ray takes the loss of a worker that has only just started for one of the controller, and gives up.
    failures = _Failures(runtime.max_failures, marks)
    while lost := _attempt(_trainer(loop, config, storage, name, runtime, failures), notes, runtime, stopping):
        failures.after_exception(None, {0: lost})


def _attempt(trainer: "_Trainer", notes: str, runtime: RuntimeConfig, stopping: Stopping) -> Exception | None:
    """One call of Ray's trainer; the loss of a worker that it did not count."""
    # Ray would take an older run's notes for its own; the loop's checkpoints are what counts.
    files.remove(notes)
    try:
        with stopping.at_interrupts(), _placement(trainer, runtime):
            trainer.fit()
        return None
    except TrainingFailedError as error:
        if isinstance(error, ControllerError):
            if _is_loss(error.controller_failure):
                return error.controller_failure
            raise error.controller_failure from error
        raise
    except RayError as error:
        raise IncompleteError(
            f"training lost its controller ({_last_line(error)}); run the same command again"
        ) from error
    except (KeyboardInterrupt, IncompleteError):
        trainer.abort()
        raise
    finally:
        files.remove(notes)


def _trainer(
    loop: Loop, config: dict[str, Any], storage: str, name: str, runtime: RuntimeConfig, failures: "_Failures"
) -> "_Trainer":
    # Workers stay in the folder of the run, so that relative paths mean the same to them.
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"
    role = runtime.train
    return _Trainer(
        _on_worker(loop, role.gpus),
        train_loop_config=config,
        torch_config=TorchConfig(backend="nccl" if role.gpus else "gloo"),
        # Ray declares the types of Train V1 here, and runs V2.
        scaling_config=ScalingConfig(  # type: ignore[call-arg]
            num_workers=(role.least, role.count) if role.least else role.count,  # type: ignore[arg-type]
            elastic_resize_monitor_interval_s=GROWTH_SECONDS,
            use_gpu=role.gpus > 0,
            resources_per_worker=role.resources,
            label_selector=role.labels,
        ),
        run_config=RunConfig(  # type: ignore[call-arg]
            name=name,
            storage_path=storage,
            failure_config=FailureConfig(max_failures=-1),
            worker_runtime_env={"env_vars": role.variables},
            callbacks=[failures],  # type: ignore[list-item]
        ),
    )


def _placement(trainer: "_Trainer", runtime: RuntimeConfig) -> AbstractContextManager[None]:
    role = runtime.train
    return watching_placement("train", role, role.count, runtime.wait_seconds, trainer.waiting)


class _Trainer(TorchTrainer):
    """Ray's trainer, without its way with Ctrl-C: it makes exit code 0 of it, or 1 while Ray waits."""

    controller: Any = None
    """The actor that leads the workers, once it is there."""
    _asked: Any = None
    _silent = 0

    def _register_sigint_handler(self, controller: Any) -> None:
        self.controller = controller

    def waiting(self) -> bool | None:
        """Whether workers have no place yet; None when the controller is gone. It answers nothing while it waits for places."""
        if self.controller is None:
            return False
        self._asked = self._asked or self.controller.get_state.remote()
        answered, _ = ray.wait([self._asked], timeout=1.0)
        self._silent = 0 if answered else self._silent + 1
        if not answered:
            return self._silent >= SILENT_SECONDS
        answer, self._asked = self._asked, None
        try:
            return type(ray.get(answer)).__name__ in _WAITING
        except RayError:
            return None

    def abort(self) -> None:
        """End the workers."""
        if self.controller is None:
            return
        try:
            ray.get(self.controller.abort.remote(), timeout=ABORT_SECONDS)
        except (GetTimeoutError, RayError):
            # It ends itself after it has ended its workers, which Ray calls an error; one that does not is ended here.
            ray.kill(self.controller)


def _on_worker(loop: Loop, gpus: float) -> Loop:
    @functools.wraps(loop)
    def run(config: dict[str, Any]) -> None:
        if gpus:
            # Ray shows all GPUs of a machine to all its workers.
            torch.cuda.set_device(get_device())
        try:
            loop(config)
        except Exception as error:
            # Tracebacks get lost between processes, notes don't.
            error.add_note(traceback.format_exc())
            raise

    return run


class _Failures(UserCallback):
    """Ends training at an error that another attempt would meet again, and after too many losses without a checkpoint in between."""

    def __init__(self, limit: int, marks: Callable[[], object]) -> None:
        self._limit, self._marks = limit, marks
        # It moves into a process of Ray, which knows nothing of the run.
        self._variables = telemetry.variables()
        self._last: object = None
        self._count = 0

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        errors = list(worker_exceptions.values())
        for error in errors:
            if _is_final(error):
                raise error
        os.environ.update(self._variables)
        telemetry.record("uldscale_train_restarts_total", 1)
        if not any(getattr(error, "preempted", False) for error in errors):
            self._count_failure(errors)

    def _count_failure(self, errors: list[Exception]) -> None:
        marks = self._marks()
        self._count = self._count + 1 if marks == self._last else 1
        self._last = marks
        if self._count <= self._limit:
            return
        if any(_is_loss(error) for error in errors):
            raise _lost_too_often(self._limit, errors)
        raise errors[0]


def _is_final(error: Exception) -> bool:
    return not isinstance(error, TRANSIENT) and not _is_loss(error)


def _is_loss(error: Exception) -> bool:
    """Whether Ray reports the end of a process, as opposed to an exception of the loop."""
    return isinstance(error, RayError) or type(error).__module__.startswith("ray.")


def _lost_too_often(limit: int, errors: list[Exception]) -> IncompleteError:
    return IncompleteError(
        f"training lost its workers more often since the last checkpoint than runtime.max_failures = {limit} allows "
        f"({_last_line(errors[0])}); look for too little memory, and run the same command again to go on from that checkpoint"
    )


def _last_line(error: Exception) -> str:
    # Some of Ray's errors have no text.
    return str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
