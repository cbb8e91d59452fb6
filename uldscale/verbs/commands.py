"""Verbs of the first ten minutes, and those that look after what is there, on the command line; `cli.py` joins them to those of a run.

Heavy imports happen inside the verbs, so that `--help` answers at once.
"""

from typing import Annotated

import typer

from uldscale.errors import ConfigError

first_app = typer.Typer()
store_app = typer.Typer(help="Look after a feature store.", no_args_is_help=True)


@first_app.command()
def init(
    images: Annotated[
        str, typer.Argument(help="folder, pattern, list or COCO file of the images, also in a bucket", metavar="IMAGES")
    ],
    job: Annotated[str, typer.Option("--job", "-o", help="YAML file to write")] = "job.yaml",
    test: Annotated[str | None, typer.Option(help="test images, in the same form")] = None,
    root: Annotated[
        str | None, typer.Option("--images", help="folder of the images that a list or COCO file names")
    ] = None,
    boxes: Annotated[
        str | None, typer.Option(help="JSON or CSV file with the object's box in each image, as for data.roi.file")
    ] = None,
    model: Annotated[str | None, typer.Option(help="diffusion model: tiny-ldm, a folder or a hub id")] = None,
    landmarks: Annotated[int | None, typer.Option("--landmarks", "-k", min=2, help="number of landmarks K")] = None,
    force: Annotated[bool, typer.Option("--force", help="write over a job file that is there")] = False,
) -> None:
    """Look at a heap of images and write a job for it."""
    from uldscale.verbs.init import init as write
    from uldscale.verbs.proposal import Wishes

    write(images, job, test=test, images=root, wishes=Wishes(model, boxes, landmarks), force=force)


@first_app.command()
def doctor() -> None:
    """What this machine has that a job needs, and what to do where something is missing."""
    try:
        from uldscale.verbs.doctor import examine
    except (ImportError, OSError) as error:  # A torch without the libraries of its CUDA raises either.
        raise ConfigError(
            f"a package that every job needs cannot be imported ({error}); install uldscale again, best in a fresh environment"
        ) from error

    examine()


@first_app.command()
def explain(
    key: Annotated[str | None, typer.Argument(help="a setting or a part of them, such as train.clusters")] = None,
) -> None:
    """What the settings of a job mean, their types and defaults."""
    from uldscale.verbs.explain import explain as tell

    tell(key)


@first_app.command()
def status(run: Annotated[str, typer.Argument(help="run folder, such as runs/faces68")]) -> None:
    """How far a run is, how fast, until when; reads files only."""
    from uldscale.stages.status import print_status

    print_status(run)


@store_app.command("info")
def store_info(store: Annotated[str, typer.Argument(help="feature store")]) -> None:
    """What a store holds and what made it."""
    from uldscale.stages.inspect_store import print_info

    print_info(store)


@store_app.command("verify")
def store_verify(
    store: Annotated[str, typer.Argument(help="feature store")],
    repair: Annotated[
        bool, typer.Option(help="drop the records of bad shards, so that the next run rewrites them")
    ] = False,
) -> None:
    """Read every byte of a store and check it."""
    from uldscale.stages.inspect_store import verify

    verify(store, repair=repair)
