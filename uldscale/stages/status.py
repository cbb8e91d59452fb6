"""The verb `status`: how far a run is, how fast, until when. Reads files only, so it works beside a running job and after it."""

import time

import typer

from uldscale import files
from uldscale.data.index import ImageIndex
from uldscale.errors import DataError, StoreError
from uldscale.runs import RunFolder
from uldscale.runtime import progress
from uldscale.runtime.progress import Standing, clock
from uldscale.store.features import FeatureStore
from uldscale.training import checkpoints, warnings
from uldscale.training.journal import RELABEL
from uldscale.training.schedule import TrainConfig

SILENT_SECONDS = 60.0
"""After so long without a word a process may have died, or its disk is slow to show what it writes."""


def print_status(root: str) -> None:
    """Print one line a stage, of a run on a disk or in a bucket. Raises DataError when the folder is not a run folder."""
    run = RunFolder(root)
    if not files.exists(run.config):
        raise DataError(f"{root!r} is not a run folder (no config.yaml); give a folder such as runs/faces68")
    known = {standing.stage: standing for standing in progress.read(run.progress)}
    settings = run.read_config()
    lines = {
        "index": "done" if files.exists(run.index) else "not yet",
        "codec": "not yet",
        "extract": _extraction(settings["extract"]["store"]["root"] or run.store),
        "zero_shot": "not yet",
        **_training(TrainConfig.model_validate(settings["train"]), run, known),
        RELABEL: "not yet",
        "locate": "not yet",
        "evaluate": "done" if files.exists(run.result) else "not yet",
        "report": run.report if files.exists(run.report) else "not yet",
    }
    for stage, line in lines.items():
        typer.echo(f"{stage:<18}{_told(line, known.get(stage))}")
    for symptom in warnings.read(run):
        typer.echo(f"warning: {symptom}")


def _extraction(root: str) -> str:
    try:
        store = FeatureStore.open(root)
        missing = len(store.missing_shards())
    except StoreError as error:
        return str(error)
    return f"{store.spec.num_shards - missing} of {store.spec.num_shards} shards"


def _training(config: TrainConfig, run: RunFolder, known: dict[str, Standing]) -> dict[str, str]:
    """Steps done of each stage: those in the last checkpoint or, of the stage under way, those since."""
    if not files.exists(run.index):
        return dict.fromkeys((stage.value for stage in config.stages), "not yet")
    config = config.in_steps(len(ImageIndex.read(run.index).rows("train")))
    kept = checkpoints.steps(run.checkpoints)
    lines = {}
    for stage in config.stages:
        standing, done = known.get(stage.value), kept.get(stage, 0)
        if standing and standing.active:
            done = max(done, standing.done)
        lines[stage.value] = f"{done} of {config.of(stage).steps} steps"
    return lines


def _told(line: str, standing: Standing | None) -> str:
    """With what the stage said last: its pace while it is at work, else what it has done where nothing else shows that."""
    if standing is None:
        return line
    if not standing.active:
        return f"{standing.done} of {standing.total}" if line == "not yet" else line
    parts = [f"{standing.done} of {standing.total}" if line == "not yet" else line, f"{standing.rate:.3g}/s"]
    if standing.left is not None:
        parts.append(f"{clock(standing.left)} left")
    if standing.note:
        parts.append(standing.note)
    if (silent := time.time() - standing.time) > SILENT_SECONDS:
        parts.append(f"no word for {clock(silent)}")
    return ", ".join(parts)
