"""The verb `init`: look at some images and write a job for them, with what is unsure about it."""

import os
import textwrap
from importlib import resources
from typing import Any

import jinja2
import typer
import yaml

from uldscale import config, files
from uldscale.errors import UserError
from uldscale.job import Job
from uldscale.runtime.machine import Machine
from uldscale.stages.devices import CPU, named
from uldscale.stages.plan import plan
from uldscale.verbs.proposal import Proposal, Wishes
from uldscale.verbs.survey import Survey, describe

LEAST = "laptop"
"""For which a GPU is planned that no table has."""
_SHOWN = ("images", "store", "extraction", "schedule", "training")
"""Of the plan."""


def init(place: str, path: str, *, test: str | None, images: str | None, wishes: Wishes, force: bool) -> None:
    """Write a job for the images at a place to `path`, and print what it is and what is unsure.

    Raises UserError when there is a file already and not `force`, DataError when there are no images, ModelError for a model that is
    none.
    """
    if os.path.exists(path) and not force:
        raise UserError(f"{path} is there already; give another file with --job, or --force to write over it")
    data = describe(place, test, images)
    typer.echo(f"looking at {data.train} ({data.kind})", err=True)
    proposal = Proposal(data, Survey.of(data), Machine.here(), wishes)
    settings = proposal.settings() | {"path": path, "output": "runs"}
    job = _job(_render(settings, {"summary": [], "plan": [], "unsure": [], "machine": ""}), path)
    told = {
        "summary": _summary(proposal, job),
        "plan": _plan(proposal.machine, job),
        "unsure": proposal.unsure(),
        "machine": proposal.machine.words(),
    }
    text = _render(settings, told)
    _job(text, path)
    files.write_bytes(path, text.encode())
    _print(told, path)


def _render(settings: dict[str, Any], told: dict[str, Any]) -> str:
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    environment.filters["yaml"] = _inline
    environment.filters["comment"] = _comment
    template = environment.from_string((resources.files("uldscale") / "verbs/job.yaml.jinja").read_text("utf-8"))
    return template.render(**settings, **told)


def _inline(value: Any) -> str:
    """A value as YAML, in the line."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...")


def _comment(text: str, mark: str = "# ") -> str:
    """Text as comment lines, whatever is in it: names of files may have line breaks."""
    lines = textwrap.wrap(" ".join(text.split()), 134, break_long_words=False, break_on_hyphens=False)
    return "\n".join((mark if number == 0 else "#" + " " * (len(mark) + 1)) + line for number, line in enumerate(lines))


def _job(text: str, path: str) -> Job:
    return config.validate(Job, yaml.safe_load(text), path)


def _summary(proposal: Proposal, job: Job) -> list[str]:
    survey = proposal.survey
    test = survey.images("test")
    counts = (
        f"{survey.images('train'):,} training and {test:,} test images"
        if test
        else f"{survey.images('train'):,} images"
    )
    return [
        f"{counts} of kind {job.data.kind}, {survey.side} pixels a side (median of {len(survey.looks)} that were opened)",
        f"K = {job.train.clusters.landmarks} landmarks with the model {job.extract.features.backbone.model}",
    ]


def _plan(machine: Machine, job: Job) -> list[str]:
    gpu = (named(machine.gpus[0]) or LEAST) if machine.gpus else CPU
    made = plan(job.data, job.extract, job.train, job.runtime, gpu, job.root)
    return [*(f"{name:<12}{made.lines[name]}" for name in _SHOWN), *(f"{'advice':<12}{said}" for said in made.advice)]


def _print(told: dict[str, Any], path: str) -> None:
    typer.echo("\n".join(told["summary"]))
    typer.echo(f"\nplan, with {told['machine']}:")
    typer.echo("\n".join(f"  {line}" for line in told["plan"]))
    if told["unsure"]:
        typer.echo("\nnot sure about:")
        typer.echo("\n".join(f"- {line}" for line in told["unsure"]))
    typer.echo(f"\nwrote {path}; now: uldscale run {path}")
