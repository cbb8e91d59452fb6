"""The environment of a process that computes: what libraries read when they are loaded, so it has to be there before."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

PROCESS_BYTES = 0.8e9
"""Python with torch and Ray, before it has anything to do."""

_KEPT_MEMORY = {
    # glibc gives large pieces of memory back at once, and the kernel clears every page of the next one: on a CPU a quarter
    # of the time of the VAE of SD 1.5 and a tenth of that of its UNet. One arena, since others cannot keep large pieces.
    "MALLOC_MMAP_THRESHOLD_": "4000000000",
    "MALLOC_TRIM_THRESHOLD_": "8000000000",
    "MALLOC_ARENA_MAX": "1",
}

_NO_SPINNING = {
    # Threads of OpenMP that wait otherwise spin, against each other where there are more than cores: with two busy processes
    # beside it a training step on 2 cores takes 6.8 s spinning and 0.6 s sleeping, and 12 images a second are located
    # instead of 25.
    "OMP_WAIT_POLICY": "PASSIVE",
}


def of_worker(threads: int, gpus: float) -> dict[str, str]:
    """Variables of an actor or a training worker that reserves so many threads of torch and BLAS, and so many GPUs."""
    # Ray hides no GPU from a process that reserved none, and all of them would meet on the first one.
    hidden = {} if gpus else {"CUDA_VISIBLE_DEVICES": ""}
    return {"OMP_NUM_THREADS": str(threads), **_NO_SPINNING, **_KEPT_MEMORY, **hidden}


@contextmanager
def given(gpus: float) -> Iterator[None]:
    """A block of this process that was given so many GPUs: with none, libraries that look for one by themselves (cuML) find none."""
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = before


def stop_spinning() -> None:
    """Let threads of this process sleep while they wait, unless its user says otherwise; to be called before torch is imported."""
    for name, value in _NO_SPINNING.items():
        os.environ.setdefault(name, value)
