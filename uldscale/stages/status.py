"""The verb `status`: how far a run is, how fast, until when. Reads files only, so it works beside a running job and after it."""

from typing import Any

import typer

from uldscale import files
from uldscale.errors import DataError, StoreError
from uldscale.runs import RunFolder
from uldscale.store.features import FeatureStore
from uldscale.training import checkpoints
from uldscale.training.schedule import TrainConfig

RECENT = 8
"""Log lines from which the speed is taken."""


def print_status(root: str) -> None:
    """Print one line a stage. Raises DataError when the folder is not a run folder."""
    run = RunFolder(root)
    if not files.exists(run.config):
        raise DataError(f"{root!r} is not a run folder (no config.yaml); give a folder such as runs/faces68")
    settings, metrics = run.read_config(), run.read_metrics()
    typer.echo(f"{'extract':<18}{_extraction(settings, run, metrics)}")
    for stage, line in _training(TrainConfig.model_validate(settings["train"]), run, metrics).items():
        typer.echo(f"{stage:<18}{line}")
    typer.echo(f"{'evaluate':<18}{'done' if files.exists(run.result) else 'not yet'}")
    typer.echo(f"{'report':<18}{run.report if files.exists(run.report) else 'not yet'}")


def _extraction(settings: dict[str, Any], run: RunFolder, metrics: list[dict[str, Any]]) -> str:
    try:
        store = FeatureStore.open(settings["extract"]["store"]["root"] or run.store)
    except StoreError:
        return "not yet"
    total, missing = store.spec.num_shards, len(store.missing_shards())
    recent = [event for event in metrics if event["event"] == "shard"][-RECENT:]
    line = f"{total - missing} of {total} shards"
    if not missing or len(recent) < 2:
        return line
    pace = (recent[-1]["time"] - recent[0]["time"]) / (len(recent) - 1)
    return f"{line}, {pace:.1f} s a shard, {_duration(pace * missing)} left"


def _training(config: TrainConfig, run: RunFolder, metrics: list[dict[str, Any]]) -> dict[str, str]:
    """Steps done of each stage: those in the last checkpoint or, of the stage under way, those logged since."""
    lines, kept = {}, checkpoints.steps(run.checkpoints)
    for stage in config.stages:
        logged = [event for event in metrics if event["event"] == "step" and event["stage"] == stage.value]
        total = config.of(stage).steps
        done = max([kept.get(stage, 0), *(event["step"] for event in logged)])
        lines[stage.value] = f"{done} of {total} steps"
        if 0 < done < total and logged:
            pace = logged[-1]["step_seconds"]
            lines[stage.value] += f", {pace:.3f} s a step, {_duration(pace * (total - done))} left"
    return lines


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
