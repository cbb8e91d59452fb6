"""Index: look at every image once, before anything costs GPU time.

Law: the index has the same bytes for any number of workers and after any number of kills. What is done is at rest in
`index.parts` beside it, a file a chunk with one writer each, until the index is whole. Generated images stay in `renders`.
"""

import math
import os

import typer
from threadpoolctl import threadpool_limits

from uldscale import files
from uldscale.data.index import DataConfig, ImageIndex
from uldscale.data.listing import list_records
from uldscale.data.renders import Renders
from uldscale.data.rows import read_table
from uldscale.errors import DataError
from uldscale.runtime import telemetry
from uldscale.runtime.alone import Alone, pool
from uldscale.runtime.pool import Pool
from uldscale.runtime.progress import Progress
from uldscale.runtime.roles import RuntimeConfig
from uldscale.stages.index_worker import Blueprint, Chunk, chunks

POOL_IMAGES = 5000
"""From so many on the actors of a cluster do it: less takes this process no longer than 30 s, as long as actors may take to start.

On one machine it never pays: threads here and two actors had 150 to 210 photographs of 512 px a second on the same 2 cores.
"""
POOL_RENDERS = 128
"""From so many generated images on actors do it on one machine, too: threads of one process render one image after the other."""
READERS = 4
"""That an actor has more than CPUs, since some wait for a disk or a bucket."""


def read_index(config: DataConfig, path: str) -> ImageIndex | None:
    """The image index of these settings at `path`; None when it is not there, or of other ones."""
    if not files.exists(path):
        return None
    index = ImageIndex.read(path)
    return index if index.config_fingerprint == config.fingerprint() else None


def build_index(config: DataConfig, path: str, runtime: RuntimeConfig) -> ImageIndex:
    """The image index of these settings at `path`: read when it is there, else built and written.

    Beside it goes quarantined.json, which names every image that cannot be used, and why. Prints one line. Raises DataError
    when no image can be used, and what the pool of `runtime.extract` raises where there are many. One process at a time.
    """
    index, parts = read_index(config, path), _beside(path, "index.parts")
    if index is None:
        work = chunks(list_records(config), config, parts)
        _inspect(work, config, runtime, path)
        try:
            index = ImageIndex.join([read_table(chunk.part) for chunk in work], config)
        except DataError:
            # The images may be mended before the same command.
            files.remove(parts)
            raise
        _write(index, path)
    files.remove(parts)
    return index


def _inspect(work: list[Chunk], config: DataConfig, runtime: RuntimeConfig, path: str) -> None:
    """Write the parts that are missing of the index at `path`."""
    parts, renders = _beside(path, "index.parts"), Renders.beside(path) if config.kind == "faces3d" else None
    there = {files.join(parts, name) for name in files.names(parts)}
    missing = [chunk for chunk in work if chunk.part not in there]
    total, left = (sum(len(chunk.listed) for chunk in some) for some in (work, missing))
    with (
        Progress("index", total, _beside(path, "progress"), done=total - left) as progress,
        # A render's small products start BLAS threads that wait for each other: 7 times slower on two busy cores.
        threadpool_limits(1, "blas"),
        _workers(config, left, runtime, renders) as workers,
    ):
        for done in workers.run(missing):
            progress.advance(len(done.item.listed))


def _workers(config: DataConfig, images: int, runtime: RuntimeConfig, renders: str | None) -> Pool | Alone:
    many = images >= POOL_RENDERS if renders else in_cluster() and images >= POOL_IMAGES
    if runtime.ray and many:
        return pool(Blueprint(config, math.ceil(runtime.extract.cpus) + READERS, renders), "extract", runtime)
    return Alone(Blueprint(config, None, renders), None)


def in_cluster() -> bool:
    """Whether there are other machines than this one."""
    return "RAY_ADDRESS" in os.environ


def _write(index: ImageIndex, path: str) -> None:
    report, broken = _beside(path, "quarantined.json"), index.quarantined()
    # The index last: when it is there, so is all that goes with it.
    files.write_json(report, [{"id": row.id, "uri": row.uri, "reason": row.reason} for row in broken])
    index.write(path)
    typer.echo(summary(index, report))
    telemetry.record("uldscale_images_quarantined", len(broken))


def _beside(path: str, name: str) -> str:
    return files.join(path.rpartition("/")[0] or ".", name)


def summary(index: ImageIndex, report: str) -> str:
    """One line: how many images there are, how many cannot be used, and why the first of these."""
    counts = f"index: {len(index.rows('train'))} train and {len(index.rows('test'))} test images"
    broken = index.quarantined()
    if not broken:
        return counts
    shown = "; ".join(f"{row.id}: {row.reason}" for row in broken[:3])
    more = f"; ..., all in {report}" if len(broken) > 3 else ""
    return f"{counts}, {len(broken)} quarantined ({shown}{more})"
