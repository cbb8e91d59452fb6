"""The command line: the only place that turns our errors into one line and an exit code.

0 done; 1 a bug (traceback); 2 the user's turn; 3 incomplete: the same command goes on.
Heavy imports happen inside the verbs, so that `--help` answers at once.
"""

import errno
import logging
import os
import re
import sys
from typing import Annotated, Literal

import typer

from uldscale import __version__
from uldscale.errors import UldscaleError, UserError
from uldscale.runtime.environment import stop_spinning
from uldscale.runtime.screen import LEVEL, screen
from uldscale.verbs.commands import first_app, store_app
from uldscale.verbs.model import export, predict

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(first_app)
app.add_typer(store_app, name="store")

JobFile = Annotated[str, typer.Argument(help="YAML file of the run, such as jobs/faces68.yaml", metavar="JOB")]
Overrides = Annotated[list[str] | None, typer.Argument(help="key.sub=value, over the file", metavar="[KEY=VALUE]...")]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"uldscale {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        typer.Option(envvar=LEVEL, help="how much is said on standard error; debug: by Ray and other libraries, too"),
    ] = "info",
) -> None:
    """Discover object landmarks without annotations."""
    os.environ[LEVEL] = log_level
    logging.basicConfig(level=logging.DEBUG if log_level == "debug" else logging.WARNING)


@app.command()
def demo(overrides: Overrides = None) -> None:
    """The whole pipeline on the embedded default: synthetic faces, 8 minutes on 2 cores."""
    from importlib.resources import files

    run(str(files("uldscale") / "demo.yaml"), overrides)


@app.command()
def run(job: JobFile, overrides: Overrides = None) -> None:
    """The whole pipeline of a job; running it again does what is missing."""
    _reading(job)
    from uldscale.stages.tables import print_summary

    pipeline = _pipeline(job, overrides)
    print_summary(pipeline.run_all(), pipeline.run.report)


@app.command()
def ablation(
    job: JobFile,
    overrides: Overrides = None,
    seeds: Annotated[int, typer.Option(min=1, help="runs with the seeds 0, 1, …")] = 3,
) -> None:
    """The pipeline over several seeds on one feature store; mean and spread of every number."""
    _reading(job)
    from uldscale.ablation import Ablation, print_table
    from uldscale.job import load_job

    runs = Ablation(load_job(job, overrides or []), seeds)
    print_table(runs.run_all())
    typer.echo(runs.path)


@app.command()
def sweep(
    job: JobFile,
    overrides: Overrides = None,
    landmarks: Annotated[list[int], typer.Option("--landmarks", "-k", min=2, help="numbers of landmarks K")] = [5, 10],  # noqa: B006
    poses: Annotated[list[int], typer.Option("--poses", "-q", min=1, help="numbers of poses Q")] = [3, 5],  # noqa: B006
) -> None:
    """D-ULD++ with other numbers of landmarks and poses, on one feature store; a picture of forward and backward NME, or without
    annotations of consistency."""
    _reading(job)
    from uldscale.job import load_job
    from uldscale.sweep import Sweep

    runs = Sweep(load_job(job, overrides or []), landmarks, poses)
    runs.run_all()
    typer.echo(runs.path)


@app.command()
def index(job: JobFile, overrides: Overrides = None) -> None:
    """List, check and measure the images of a job."""
    _pipeline(job, overrides).index()


@app.command()
def extract(job: JobFile, overrides: Overrides = None) -> None:
    """Compute diffusion features into the feature store."""
    _reading(job)
    _pipeline(job, overrides).extract()


@app.command()
def train(job: JobFile, overrides: Overrides = None) -> None:
    """Train all stages on the feature store."""
    _reading(job)
    _pipeline(job, overrides).train()


@app.command()
def evaluate(
    job: JobFile,
    overrides: Overrides = None,
    predictions: Annotated[
        str | None, typer.Option(help="JSON file with the landmarks of another method, which joins those of the run")
    ] = None,
) -> None:
    """Measure all methods, into result.json."""
    from uldscale.stages.tables import print_summary

    pipeline = _pipeline(job, overrides)
    print_summary(pipeline.score(predictions) if predictions else pipeline.evaluate(), None)


@app.command()
def report(job: JobFile, overrides: Overrides = None) -> None:
    """Write report.html from what a run has."""
    typer.echo(_pipeline(job, overrides).report())


app.command()(predict)
app.command()(export)


@app.command()
def plan(
    job: JobFile,
    overrides: Overrides = None,
    gpu: Annotated[
        str, typer.Option(help="GPU to plan for, such as a100, l4 or rtx4090, or cpu: this machine")
    ] = "a100",
) -> None:
    """Bytes, objects, FLOPs, GPU-hours and money of a job, before anyone asks for a GPU."""
    from uldscale.job import load_job
    from uldscale.stages.plan import print_plan

    settings = load_job(job, overrides or [])
    print_plan(settings.data, settings.extract, settings.train, settings.runtime, gpu, settings.root)


@app.command()
def pretrain(job: JobFile, overrides: Overrides = None) -> None:
    """Train a small latent diffusion model on your own images, in diffusers format."""
    from uldscale.config import load
    from uldscale.stages.pretrain import pretrain as train_model
    from uldscale.stages.pretrain_config import PretrainConfig

    train_model(load(PretrainConfig, job, overrides or []), job)


def _reading(job: str) -> None:
    """A word at once: importing what computes takes seconds, on busy cores a minute."""
    if os.path.isfile(job):
        screen().say(f"reading {job}")


def _pipeline(job: str, overrides: list[str] | None) -> "Pipeline":  # type: ignore[name-defined]  # noqa: F821
    from uldscale.job import load_job
    from uldscale.pipeline import Pipeline

    return Pipeline(load_job(job, overrides or []))


_DASHED = re.compile(r"--(name|output|data|extract|zero_shot|train|evaluate|runtime)(\.[a-z_.]+)?=")
"""A setting given like an option."""
_REFUSED = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP,
    errno.ESTALE, errno.EIO,
)  # fmt: skip
"""What a file system says of places that a user named, and of itself."""
INTERRUPTED = 130
"""What typer makes of a KeyboardInterrupt."""


def main() -> None:
    """Entry point of the `uldscale` command."""
    stop_spinning()
    try:
        if given := next(filter(_DASHED.match, sys.argv[1:]), None):
            raise UserError(f"settings have no dashes; give {given.lstrip('-')}")
        app()
    except UldscaleError as error:
        typer.echo(f"uldscale: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            typer.echo(f"uldscale: the disk is full: {error}; make room and run the command again", err=True)
        elif error.errno in _REFUSED:
            said = f"{error.filename}: {error.strerror}"
            typer.echo(f"uldscale: {said}; give another place, or mend that, and run the command again", err=True)
        else:
            raise
        sys.exit(UserError.exit_code)
    except SystemExit as end:
        if end.code != INTERRUPTED:
            raise
        typer.echo("uldscale: interrupted; the same command goes on from here", err=True)
        sys.exit(3)


if __name__ == "__main__":
    main()
