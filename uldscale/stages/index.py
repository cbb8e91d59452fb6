"""Index: look at every image once, before anything costs GPU time."""

import typer

from uldscale import files
from uldscale.data.index import DataConfig, ImageIndex
from uldscale.data.listing import list_records
from uldscale.runtime import telemetry
from uldscale.runtime.progress import Progress


def build_index(config: DataConfig, path: str) -> ImageIndex:
    """The image index of these settings at `path`: read when it is there, else built and written.

    Beside it goes quarantined.json, which names every image that cannot be used, and why. Prints one line. Raises DataError
    when no image can be used.
    """
    if files.exists(path):
        index = ImageIndex.read(path)
        if index.config_fingerprint == config.fingerprint():
            return index
    listed = list_records(config)
    with Progress("index", len(listed), _beside(path, "progress")) as progress:
        index = ImageIndex.build(config, progress.advance, listed)
    index.write(path)
    files.write_json(
        _report_of(path), [{"id": row.id, "uri": row.uri, "reason": row.reason} for row in index.quarantined()]
    )
    typer.echo(summary(index, _report_of(path)))
    telemetry.record("uldscale_images_quarantined", len(index.quarantined()))
    return index


def _report_of(path: str) -> str:
    return _beside(path, "quarantined.json")


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
