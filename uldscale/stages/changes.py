"""What has happened to the images of a run since they were indexed, and what is odd about them; a run would go on without a word."""

import os
from collections.abc import Iterator
from contextlib import suppress

import numpy as np

from uldscale import files
from uldscale.data.index import DataConfig, ImageIndex
from uldscale.data.listing import list_records
from uldscale.errors import DataError


def since_indexed(config: DataConfig, index: ImageIndex, path: str) -> list[str]:
    """Sentences about images, and files that list them or hold their boxes, that came, went or were written after the index at `path`
    was; empty for images in a bucket.

    Whether a file has changed is told by its time: who reads it again looks at its checksum.
    """
    if config.kind == "faces3d" or not files.is_local(str(config.train)):
        return []
    try:
        now = {record.id: record.uri for _, record in list_records(config)}
    except DataError as problem:
        return [f"the images cannot be listed any more: {problem}"]
    before = set(index.table["id"].to_pylist())
    if config.roi.objects == "all":
        before -= {id for id in before - set(now) if id.rpartition("#")[0] in before}
    written = os.path.getmtime(path)
    found = {
        "new": sorted(set(now) - before),
        "gone": sorted(before - set(now)),
        "changed": sorted(id for id, uri in now.items() if id in before and _time(uri) > written),
    }
    said = [
        f"{len(ids):,} images are {what} since this run was indexed, such as {ids[0]}"
        for what, ids in found.items()
        if ids
    ]
    return said + [
        f"{place} was written since this run was indexed" for place in _lists(config) if _time(place) > written
    ]


def require_different(index: ImageIndex) -> None:
    """Raises DataError when all training images are the same one."""
    rows, content = index.rows("train"), _content(index)
    if len(rows) > 1 and len(set(content[rows])) == 1:
        raise DataError(
            f"all {len(rows)} training images have the same content, so there is nothing to learn from; look at data.train"
        )


def copies(index: ImageIndex) -> Iterator[str]:
    """Sentences about images that are in both splits, or several times in one."""
    content = _content(index)
    train, test = ([content[row] for row in index.rows(split)] for split in ("train", "test"))
    seen = set(train)
    if both := sum(one in seen for one in test):
        yield (
            f"{both:,} of {len(test):,} test images are training images, too: measures are better than on new images; give other "
            "ones as data.test"
        )
    if len(seen) < 0.5 * len(train):
        yield f"{len(train):,} training images have only {len(seen):,} different contents; copies teach nothing"


def _content(index: ImageIndex) -> "np.ndarray[tuple[int], np.dtype[np.object_]]":
    """What tells images apart, by row: the file and the part of it that a crop shows."""
    columns = (index.table[name].to_pylist() for name in ("sha256", "roi"))
    pairs = np.empty(len(index), object)
    pairs[:] = [(content, tuple(region)) for content, region in zip(*columns, strict=True)]
    return pairs


def _lists(config: DataConfig) -> list[str]:
    """Local files that list images or hold boxes."""
    named = (config.train, config.test, config.roi.file)
    places = [os.path.expanduser(place) for place in named if isinstance(place, str)]
    return [place for place in places if os.path.isfile(place)]


def _time(uri: str) -> float:
    """When a local file was written; 0 for what is elsewhere."""
    # One question an image: a shared disk takes its time for each.
    with suppress(OSError):
        return os.path.getmtime(uri) if "://" not in uri else 0.0
    return 0.0
