"""Training workers: Ray Train around a loop that finds its own checkpoints.

Laws: a lost worker costs the steps since the last checkpoint; an error of the loop comes out as it is.
"""

import functools
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from ray.exceptions import RayError
from ray.train import (
    ControllerError,
    FailureConfig,
    RunConfig,
    ScalingConfig,
    TrainingFailedError,
    UserCallback,
    WorkerGroupError,
)
from ray.train.torch import TorchConfig, TorchTrainer, get_device

from uldscale import files
from uldscale.errors import IncompleteError
from uldscale.runtime import environment
from uldscale.runtime.cluster import RuntimeConfig

Loop = Callable[[dict[str, Any]], None]

TRANSIENT = (RuntimeError, OSError)
"""What gloo, NCCL, CUDA and storage raise, also on ranks that outlive a lost one; others come on every attempt."""


def fit(loop: Loop, config: dict[str, Any], *, storage: str, name: str, runtime: RuntimeConfig) -> None:
    """Run `loop(config)` on `runtime.workers` workers that share a process group (NCCL with GPUs, else gloo).

    When a worker is lost, or the loop raises one of TRANSIENT, all workers start again, at most `runtime.max_failures`
    times; the loop goes on from the checkpoints that it wrote. `storage` is a folder that all machines see; Ray keeps
    its notes in `<storage>/<name>` while it runs. This process must be connected (cluster.connect).

    Raises what the loop raised; IncompleteError when workers were lost too often.
    """
    storage = os.path.abspath(storage) if files.is_local(storage) else storage
    notes = files.join(storage, name)
    # Ray would take an older run's notes for its own; the loop's checkpoints are what counts.
    files.remove(notes)
    try:
        with _own_interrupts():
            _trainer(loop, config, storage, name, runtime).fit()
    except TrainingFailedError as error:
        raise _raised_by_loop(error, runtime) from error
    except RayError as error:
        raise IncompleteError(
            f"training lost its controller ({_last_line(error)}); run the same command again"
        ) from error
    finally:
        files.remove(notes)


def _trainer(loop: Loop, config: dict[str, Any], storage: str, name: str, runtime: RuntimeConfig) -> TorchTrainer:
    # Workers stay in the folder of the run, so that relative paths mean the same to them.
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"
    on_gpu = runtime.gpus_per_worker > 0
    resources = {"CPU": float(runtime.threads_per_worker)} | ({"GPU": runtime.gpus_per_worker} if on_gpu else {})
    return TorchTrainer(
        _on_worker(loop),
        train_loop_config=config,
        torch_config=TorchConfig(backend="nccl" if on_gpu else "gloo"),
        scaling_config=ScalingConfig(num_workers=runtime.workers, use_gpu=on_gpu, resources_per_worker=resources),
        # Ray declares the types of Train V1 here, and runs V2.
        run_config=RunConfig(  # type: ignore[call-arg]
            name=name,
            storage_path=storage,
            failure_config=FailureConfig(max_failures=runtime.max_failures),
            worker_runtime_env={"env_vars": environment.of_worker(runtime.threads_per_worker, runtime.gpus_per_worker)},
            callbacks=[_StopAtLoopErrors()],  # type: ignore[list-item]
        ),
    )


def _on_worker(loop: Loop) -> Loop:
    @functools.wraps(loop)
    def run(config: dict[str, Any]) -> None:
        if torch.cuda.is_available():
            # Ray shows all GPUs of a machine to all its workers.
            torch.cuda.set_device(get_device())
        try:
            loop(config)
        except Exception as error:
            # Tracebacks get lost between processes, notes don't.
            error.add_note(traceback.format_exc())
            raise

    return run


class _StopAtLoopErrors(UserCallback):
    """Ends training at an error that another attempt would meet again."""

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        for error in worker_exceptions.values():
            if _is_final(error):
                raise error


def _is_final(error: Exception) -> bool:
    return not isinstance(error, TRANSIENT) and not _is_loss(error)


def _is_loss(error: Exception) -> bool:
    """Whether Ray reports the end of a process, as opposed to an exception of the loop."""
    return isinstance(error, RayError) or type(error).__module__.startswith("ray.")


def _raised_by_loop(error: TrainingFailedError, runtime: RuntimeConfig) -> Exception:
    if isinstance(error, WorkerGroupError):
        causes = list(error.worker_failures.values())
    else:
        causes = [error.controller_failure] if isinstance(error, ControllerError) else [error]
    raised = [cause for cause in causes if not _is_loss(cause)]
    if raised and not any(_is_loss(cause) for cause in causes):
        return raised[0]
    return IncompleteError(
        f"training lost its workers more often than runtime.max_failures = {runtime.max_failures} allows "
        f"({_last_line(causes[0])}); look for too little memory, and run the same command again to go on from the last "
        "checkpoint"
    )


def _last_line(error: Exception) -> str:
    # Some of Ray's errors have no text.
    return str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__


@contextmanager
def _own_interrupts() -> Iterator[None]:
    """Ray Train takes over Ctrl-C for good and makes exit code 0 of it, or 1 while Ray waits: an interrupt stays an interrupt."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as ended:
        if ended.code not in (None, 0, 1):
            raise
        raise KeyboardInterrupt from None
    finally:
        if before is not signal.getsignal(signal.SIGINT):
            signal.signal(signal.SIGINT, before)
