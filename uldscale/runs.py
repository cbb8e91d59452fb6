"""The run folder: everything that a run leaves behind, readable with ls, cat and a browser.

config.yaml        the resolved job
environment.json   versions and machine
metrics.jsonl      one JSON line per event
index.parquet  renders/  store.zarr  labels/  checkpoints/  workers/  methods/  model/  result.json  report.html
progress/          how far each stage is, JSON
warnings/          what seems to go wrong, JSON
lock               held by the process that extracts or trains (locks.py)
stop               there while training shall write a checkpoint and end
"""

import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Self

import yaml

from uldscale import files
from uldscale.errors import ConfigError
from uldscale.locks import at_work

Identity = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run, and its log."""

    root: str

    @classmethod
    def create(cls, root: str, settings: dict[str, Any], identity: Identity) -> Self:
        """The folder of a run, new or one that goes on.

        settings: the resolved job; identity: gives those of a job's settings that decide what is computed. A part that the run was
        without (null) may come in later. Raises ConfigError when features or methods of another identity are there, or a process that
        makes them, or the folder is no folder.
        """
        run = cls(root)
        if "://" in root or (os.path.exists(root) and not os.path.isdir(root)):
            raise ConfigError(
                f"output folder {root!r} must be a folder on a local or mounted disk; set `output` or `name`"
            )
        if os.path.exists(run.config):
            changed = list(_differences(identity(run.read_config()), identity(settings)))
            # Before it has work, another process may be at it.
            if changed and (run.has_work or at_work(root)):
                raise ConfigError(
                    f"{root} holds a run with other settings: {'; '.join(changed)}; set another `name`, or remove it"
                )
            if changed:
                files.remove(run.index)
        run.write_config(settings)
        run.write_environment()
        run._end_torn_line()
        return run

    @property
    def config(self) -> str:
        """The resolved job, YAML."""
        return files.join(self.root, "config.yaml")

    @property
    def environment(self) -> str:
        """Versions and machine, JSON."""
        return files.join(self.root, "environment.json")

    @property
    def metrics(self) -> str:
        """The log, JSON lines."""
        return files.join(self.root, "metrics.jsonl")

    @property
    def index(self) -> str:
        """The image index, parquet."""
        return files.join(self.root, "index.parquet")

    @property
    def store(self) -> str:
        """The feature store, unless the job puts it elsewhere."""
        return files.join(self.root, "store.zarr")

    @property
    def labels(self) -> str:
        """Folder of the rounds of pseudo-labels."""
        return files.join(self.root, "labels")

    @property
    def checkpoints(self) -> str:
        """Folder of the training checkpoints."""
        return files.join(self.root, "checkpoints")

    @property
    def workers(self) -> str:
        """Folder in which the training workers keep their own books."""
        return files.join(self.root, "workers")

    @property
    def progress(self) -> str:
        """Folder in which every stage says how far it is."""
        return files.join(self.root, "progress")

    @property
    def warnings(self) -> str:
        """Folder of the warnings that hold now."""
        return files.join(self.root, "warnings")

    @property
    def stop(self) -> str:
        """File at which training stops with a checkpoint."""
        return files.join(self.root, "stop")

    @property
    def methods(self) -> str:
        """Folder of the methods that are compared."""
        return files.join(self.root, "methods")

    @property
    def has_work(self) -> bool:
        """Whether anything but the index was computed."""
        return any(files.exists(place) for place in (self.store, self.checkpoints, self.methods))

    def method(self, name: str) -> str:
        """Folder of one method: its detector, if it has one, and its predictions."""
        return files.join(self.methods, name)

    @property
    def model(self) -> str:
        """Folder of the detector that the run is for."""
        return files.join(self.root, "model")

    @property
    def result(self) -> str:
        """All measures, JSON."""
        return files.join(self.root, "result.json")

    @property
    def report(self) -> str:
        """The report, HTML."""
        return files.join(self.root, "report.html")

    def write_config(self, settings: dict[str, Any]) -> None:
        """Write the resolved job; `settings` are plain YAML values."""
        files.write_bytes(self.config, yaml.safe_dump(settings, sort_keys=False, allow_unicode=True).encode())

    def read_config(self) -> dict[str, Any]:
        """The resolved job."""
        settings: dict[str, Any] = yaml.safe_load(files.read_bytes(self.config))
        return settings

    def write_environment(self, **more: Any) -> None:
        """Write versions of Python and of all installed packages, platform, number of CPUs and what else is known."""
        # An installation that was interrupted leaves folders without a name.
        named = [package for package in metadata.distributions() if package.metadata["Name"]]
        packages = {package.metadata["Name"]: package.version for package in named}
        environment = {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "cpus": os.cpu_count(),
            "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
            **more,
        }
        files.write_json(self.environment, environment)

    def log(self, *, event: str, **values: Any) -> None:
        """Append one JSON line: time (Unix seconds), event and values; a number that is not finite becomes null.

        One write to the end of the file, so that lines of several threads and processes stay whole.
        """
        event_values = {"time": round(time.time(), 3), "event": event, **files.plain(values)}
        line = json.dumps(event_values, allow_nan=False).encode() + b"\n"
        with open(self.metrics, "ab", buffering=0) as file:
            # A disk that is nearly full takes a part of the line and says so only when it is given the rest.
            while line:
                line = line[file.write(line) :]

    def read_metrics(self) -> list[dict[str, Any]]:
        """All events in order; empty before the first. A line that a kill or a full disk tore is skipped."""
        if not files.exists(self.metrics):
            return []
        return [event for line in files.read_bytes(self.metrics).splitlines() if (event := _parsed(line)) is not None]

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Books the seconds of a block, whole or not, on a stage."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.log(event="timed", stage=stage, seconds=round(time.monotonic() - start, 3))

    def seconds(self) -> dict[str, float]:
        """Seconds booked so far, by stage."""
        booked: dict[str, float] = {}
        for event in self.read_metrics():
            if event["event"] == "timed":
                booked[event["stage"]] = round(booked.get(event["stage"], 0.0) + event["seconds"], 3)
        return booked

    def rounds(self, stage: str) -> list[dict[str, Any]]:
        """The events of a stage's rounds of labels, by number; of one that was made again after a kill the last."""
        made = [event for event in self.read_metrics() if event["event"] == "relabel" and event["stage"] == stage]
        return [event for _, event in sorted({event["round"]: event for event in made}.items())]

    def publish(self, method: str) -> None:
        """Copy a method's detector to `model`, config.json last: a folder with it is whole. Names that a user gave its landmarks stay."""
        config, names = files.join(self.model, "config.json"), _names_in(files.join(self.model, "config.json"))
        own = {"predictions.parquet", "probe.safetensors", *(["config.json"] if names else [])}
        files.copy_folder(self.method(method), self.model, last="config.json", without=own)
        if names:
            files.write_json(config, files.read_json(files.join(self.method(method), "config.json")) | {"names": names})

    def _end_torn_line(self) -> None:
        """The next event begins a line of its own. Nothing is cut off: another process may be writing."""
        if os.path.exists(self.metrics) and not files.read_bytes(self.metrics).endswith(b"\n"):
            with open(self.metrics, "ab") as file:
                file.write(b"\n")


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        event: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return event


def _names_in(config: str) -> list[str] | None:
    """Of the landmarks, in a config.json that may be missing or damaged."""
    try:
        settings = files.read_json(config)
    except (FileNotFoundError, ValueError):
        return None
    return settings.get("names") if isinstance(settings, dict) else None


def _differences(ours: Any, theirs: Any, key: str = "") -> Iterator[str]:
    """Dotted keys of `theirs` that have another value in `ours`, but for parts that come in where there was null."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name, value in theirs.items():
            if not (isinstance(value, dict) and name in ours and ours[name] is None):
                yield from _differences(ours.get(name), value, f"{key}.{name}".lstrip("."))
    elif ours != theirs:
        yield f"{key}: the run has {ours!r}, this job wants {theirs!r}"
