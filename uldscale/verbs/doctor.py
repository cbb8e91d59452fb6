"""The verb `doctor`: what a job needs of this machine, a line for each thing, with what to do where it is missing."""

import importlib.util
import os
import shutil
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import huggingface_hub
import psutil
import ray
import torch
import typer
from filelock import FileLock, Timeout
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError

from uldscale.errors import ConfigError, UserError
from uldscale.runtime.cluster import ask
from uldscale.runtime.machine import Machine

State = Literal["ok", "note", "fault"]
"""What is as it should be, what a job may do without, and what no job can run without."""

OPTIONAL = {
    "s3fs": ("images and lists on s3://", "pip install 'uldscale[s3]'"),
    "gcsfs": ("images and lists on gs://", "pip install 'uldscale[gcs]'"),
    "cuml": ("clustering on a GPU", "pip install 'uldscale[cu12]' or 'uldscale[cu13]'"),
    "dlib": ("data.roi.provider face", "pip install 'uldscale[face]'"),
    "detectron2": ("data.roi.provider detectron2", "build it from github.com/facebookresearch/detectron2"),
    "pillow_heif": ("HEIC photographs", "pip install 'uldscale[heif]'"),
    "av": ("videos in `uldscale predict`", "pip install 'uldscale[video]'"),
    "onnxscript": ("`uldscale export --format onnx`", "pip install 'uldscale[export]'"),
}
"""Packages beyond those that everybody has: what each is for, and how it comes."""

FREE_GIB = 5.0
"""Of disk, below which a small run may not fit."""
MEMORY_GIB = 4.0
"""Of memory, below which a small run may not fit: a process has one to one and a half, and there are three or four."""
HUB_SECONDS = 5.0
_REMOTE_DISKS = (
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "lustre",
    "fuse",
    "fuseblk",
    "9p",
    "ceph",
    "glusterfs",
    "gpfs",
    "beegfs",
)


@dataclass(frozen=True)
class Finding:
    """One line of the examination."""

    what: str
    state: State
    words: str


def examine(folder: str = ".") -> None:
    """Print a line for each thing that a job in `folder` needs. Raises UserError when no job can run."""
    faults = 0
    for check in CHECKS:
        for found in check(folder):
            mark = {"ok": "ok   ", "note": "note ", "fault": "FAULT"}[found.state]
            typer.echo(f"{mark} {found.what:<10} {found.words}")
            faults += found.state == "fault"
    if faults:
        raise UserError(f"{faults} of these must be put right before a job can run here")


def _python(_: str) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("Python", "ok", f"{version} at {sys.executable}")


def _torch(_: str) -> Iterator[Finding]:
    build = f"torch {torch.__version__}, for {f'CUDA {torch.version.cuda}' if torch.version.cuda else 'CPUs'}"
    driver = shutil.which("nvidia-smi") or os.path.exists("/proc/driver/nvidia/version")
    if torch.cuda.is_available():
        yield Finding("torch", "ok", build)
    elif driver and not torch.version.cuda:
        yield Finding(
            "torch",
            "note",
            f"{build}, though this machine has an NVIDIA driver: pip install torch for its CUDA to use the GPU",
        )
    elif driver:
        yield Finding(
            "torch",
            "note",
            f"{build}, which the NVIDIA driver here does not fit: update the driver, or install a torch for its CUDA",
        )
    else:
        yield Finding("torch", "ok", build)


def _machine(_: str) -> Iterator[Finding]:
    here = Machine.here()
    for card in here.gpus:
        yield Finding(
            "GPU", "ok", f"{card.name}, {card.memory_gib:.0f} GiB; runtime.*.gpus=1 uses it (`uldscale init` sets that)"
        )
    if not here.gpus:
        yield Finding(
            "GPU",
            "note",
            "none that torch can use: a small model and images of 128 px take minutes to an hour on a CPU",
        )
    free = psutil.virtual_memory().available / 2**30
    state: State = "ok" if min(free, here.memory_gib) >= MEMORY_GIB else "note"
    more = "" if state == "ok" else "; a run wants about 4: end other programs, or take runtime.extract.count=1"
    yield Finding("CPU", "ok", f"{here.cpus} cores")
    yield Finding("memory", state, f"{here.memory_gib:.0f} GiB, {free:.0f} of them free{more}")


def _compiler(_: str) -> Iterator[Finding]:
    found = next(filter(None, map(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang"))), None)
    if found:
        yield Finding("compiler", "ok", f"C compiler at {found}")
        return
    yield Finding(
        "compiler", "note",
        "no C compiler: DeepSpeed may want to build a part of its own; install gcc, or set train.engine.kind=ddp",
    )  # fmt: skip


def _disk(folder: str) -> Iterator[Finding]:
    kind = _kind_of_disk(folder)
    shared = kind.startswith(_REMOTE_DISKS)
    free = shutil.disk_usage(folder).free / 2**30
    words = f"{free:.0f} GiB free in {os.path.abspath(folder)} ({'shared' if shared else 'local'}, {kind or 'unknown'})"
    if not os.access(folder, os.W_OK):
        yield Finding(
            "disk", "fault", f"{words}, where nothing may be written; change to another folder, or set output=…"
        )
        return
    short = "" if free >= FREE_GIB else "; `uldscale plan` says how much a store needs"
    yield Finding("disk", "ok" if free >= FREE_GIB else "note", words + short)
    yield _locking(folder, shared)


def _locking(folder: str, shared: bool) -> Finding:
    """Whether a lock that one holder has is refused to another."""
    with tempfile.TemporaryDirectory(prefix=".uldscale-doctor-", dir=folder) as place:
        first, second = (FileLock(os.path.join(place, "lock"), is_singleton=False) for _ in range(2))
        try:
            with first.acquire(timeout=1):
                try:
                    second.acquire(blocking=False)
                except Timeout:
                    more = "; whether other machines see it depends on how the disk is mounted" if shared else ""
                    return Finding("locks", "ok", f"files can be locked there{more}")
                second.release()
        except (OSError, NotImplementedError, Timeout) as error:
            return Finding("locks", "fault", f"files cannot be locked there ({error}); set output=… to another disk")
    return Finding(
        "locks", "fault", "locks do nothing there: two processes could train one run; set output=… to another disk"
    )


def _kind_of_disk(folder: str) -> str:
    here = os.path.realpath(folder)
    mounts = [part for part in psutil.disk_partitions(all=True) if _is_below(here, part.mountpoint)]
    return max(mounts, key=lambda part: len(part.mountpoint)).fstype if mounts else ""


def _is_below(path: str, mount: str) -> bool:
    return path == mount or path.startswith(mount.rstrip("/") + "/")


def _ray(_: str) -> Iterator[Finding]:
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        yield Finding(
            "Ray", "ok", f"ray {ray.__version__}, started on this machine by each run; RAY_ADDRESS names no cluster"
        )
        return
    try:
        ask(address)
    except ConfigError as problem:
        yield Finding("Ray", "fault", str(problem))
        return
    token = "with this token" if os.environ.get("RAY_AUTH_MODE") == "token" else "without a token"
    yield Finding("Ray", "ok", f"ray {ray.__version__}; a cluster answers at RAY_ADDRESS={address} {token}")


def _hub(_: str) -> Iterator[Finding]:
    if constants.HF_HUB_OFFLINE:
        yield Finding("hub", "note", "HF_HUB_OFFLINE is set: models must be folders, or in the cache of the hub")
    elif problem := _unreachable(constants.ENDPOINT):
        words = f"{constants.ENDPOINT} does not answer ({problem}): models must be folders; tiny-ldm is in the package"
        yield Finding("hub", "note", words)
    elif huggingface_hub.get_token() is None:
        yield Finding(
            "hub", "note", "reachable, not logged in: enough for open models; gated ones want `hf auth login`"
        )
    else:
        try:
            yield Finding("hub", "ok", f"reachable, logged in as {huggingface_hub.whoami()['name']}")
        except HfHubHTTPError:
            yield Finding("hub", "note", "reachable, but refuses the token that is kept here: `hf auth login` again")


def _unreachable(address: str) -> str:
    """Why a server does not answer; "" when it does, whatever it answers."""
    try:
        urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=HUB_SECONDS).close()
    except urllib.error.HTTPError:
        return ""
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error))
    return ""


def _packages(_: str) -> Iterator[Finding]:
    for name, (purpose, remedy) in OPTIONAL.items():
        there = importlib.util.find_spec(name) is not None
        words = f"{'there' if there else 'not there'}, for {purpose}" + ("" if there else f": {remedy}")
        yield Finding(name, "ok" if there else "note", words)


CHECKS: tuple[Callable[[str], Iterator[Finding]], ...] = (
    _python, _torch, _machine, _compiler, _disk, _ray, _hub, _packages,
)  # fmt: skip
