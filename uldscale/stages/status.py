"""The verb `status`: how far a run is, how fast, until when. Reads files only, so it works beside a running job and after it.

Answers at once: nothing here loads torch or Ray.
"""

import time
from collections.abc import Collection, Mapping
from typing import Any

import typer

from uldscale import files
from uldscale.errors import DataError, StoreError
from uldscale.locks import at_work
from uldscale.runs import RunFolder
from uldscale.runtime import standing as standings
from uldscale.runtime.standing import Standing, clock
from uldscale.store.features import FeatureStore
from uldscale.training import checkpoints, warnings
from uldscale.training.stages import RELABEL, Stage, StageConfig

SILENT_SECONDS = 60.0
"""After so long without a word a process may have died, or its disk is slow to show what it writes."""
SHARED = ("index", "codec", "extract")
"""What the runs of an ablation or a sweep have in common."""


def print_status(root: str) -> None:
    """Print one line a stage, of a run on a disk or in a bucket; of an ablation or a sweep, those of every run in it.

    Raises DataError when the folder is not a run folder.
    """
    run = RunFolder(root)
    if not files.exists(run.config):
        raise DataError(f"{root!r} is not a run folder (no config.yaml); give a folder such as runs/faces68")
    inner = [name for name in files.names(root) if files.exists(files.join(root, name, "config.yaml"))]
    _print_stages(run, SHARED if inner else None)
    for name in inner:
        typer.echo(f"\n{name}")
        _print_stages(RunFolder(files.join(root, name)))


def _print_stages(run: RunFolder, only: Collection[str] | None = None) -> None:
    known = {standing.stage: standing for standing in standings.read(run.progress)}
    settings = run.read_config()
    lines = {
        "index": "done" if files.exists(run.index) else "not yet",
        **_extraction(settings["extract"]["store"]["root"] or run.store, known),
        "zero_shot": "not yet",
        **_training(settings["train"], run, known),
        RELABEL: "not yet",
        "locate": "not yet",
        "evaluate": "done" if files.exists(run.result) else "not yet",
        "report": run.report if files.exists(run.report) else "not yet",
    }
    working = at_work(run.root)
    for stage, line in lines.items():
        if only is None or stage in only:
            typer.echo(f"{stage:<18}{_told(line, known.get(stage), working)}")
    for symptom in warnings.read(run):
        typer.echo(f"warning: {symptom}")
    if working is not None and only is None:
        typer.echo(f"{'process':<18}{_process(working, files.exists(run.report), run.root)}")


def _process(working: bool, whole: bool, root: str) -> str:
    if working:
        return "at work: it holds the lock of the run"
    if whole:
        return "none holds the lock of the run, which is finished"
    return f"none holds the lock of the run: nobody is at work on it; its job run again goes on from here ({root}/config.yaml)"


def _extraction(root: str, known: Mapping[str, Standing]) -> dict[str, str]:
    try:
        store = FeatureStore.open(root)
        missing = len(store.missing_shards())
        # A run in the store of another has not fitted the codec itself.
        codec = "done" if "codec" not in known and store.has_codec else "not yet"
    except StoreError as error:
        return {"codec": "not yet", "extract": str(error)}
    return {"codec": codec, "extract": f"{store.spec.num_shards - missing} of {store.spec.num_shards} shards"}


def _training(settings: dict[str, Any], run: RunFolder, known: dict[str, Standing]) -> dict[str, str]:
    """Steps done of each stage: those in the last checkpoint or, of the stage under way, those since."""
    stages = {stage: StageConfig.model_validate(settings[stage]) for stage in Stage if settings.get(stage) is not None}
    if not files.exists(run.index):
        return dict.fromkeys((stage.value for stage in stages), "not yet")
    kept = checkpoints.steps(run.checkpoints)
    lines = {}
    for stage, config in stages.items():
        standing, done = known.get(stage.value), kept.get(stage, 0)
        if standing and standing.active:
            done = max(done, standing.done)
        lines[stage.value] = f"{done} of {_steps(config, settings['batch'], run)} steps"
    return lines


def _steps(config: StageConfig, batch: int, run: RunFolder) -> int | None:
    if config.steps is not None:
        return config.steps
    from uldscale.data.index import ImageIndex  # takes a second

    return config.in_steps(len(ImageIndex.read(run.index).rows("train")) / batch).steps


def _told(line: str, standing: Standing | None, working: bool | None) -> str:
    """With what the stage said last: its pace while it is at work, else what it has done where nothing else shows that."""
    if standing is None:
        return line
    if standing.active and working is False:
        done = f"{standing.done} of {standing.total}" if line == "not yet" else line
        return f"{done}, broken off {clock(time.time() - standing.time)} ago"
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
