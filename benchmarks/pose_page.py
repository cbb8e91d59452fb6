"""Test images of a finished run from one profile to the other, with the landmarks of two methods, one above the other.

    python benchmarks/pose_page.py runs/aflw2000 page.jpg [--methods control d_uld_pp] [--rows 3]

Landmarks that seem hidden are hollow. The images are those whose yaw is nearest to that of their column.
"""

import argparse
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from uldscale.config import read_yaml
from uldscale.data.index import ImageIndex
from uldscale.evaluation.plots import overlay
from uldscale.formats import SEEN
from uldscale.job import Job
from uldscale.runs import RunFolder
from uldscale.stages.landmarks import landmarks_of
from uldscale.stages.truth import Truth

COLUMNS = 9
SIDE, GAP = 256, 16
"""Pixels of an image, and between two blocks of them."""


def columns(yaw: NDArray[np.floating], rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """(count, COLUMNS) rows whose yaw is nearest to that of their column; each row stands in one column."""
    left = rows[np.isfinite(yaw[rows])]
    count = min(count, len(left) // COLUMNS)
    low, high = np.quantile(yaw[left], [0.02, 0.98])
    found = []
    for wanted in np.linspace(low, high, COLUMNS):
        left = left[np.argsort(np.abs(yaw[left] - wanted), kind="stable")]
        found.append(left[:count])
        left = left[count:]
    return np.stack(found, axis=1)


def draw(index: ImageIndex, run: RunFolder, size: int, method: str, rows: NDArray[np.int64]) -> list[Image.Image]:
    """Some images with the landmarks of a method."""
    points, _, seen = landmarks_of(index, run, method)
    pictures = []
    for row in rows:
        hidden = None if seen is None else (seen[row] < SEEN).tolist()
        drawn = Image.open(io.BytesIO(overlay(index.load(int(row), size), points[row] * size, hidden)))
        pictures.append(drawn.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS))
    return pictures


def page(run: RunFolder, methods: list[str], count: int) -> Image.Image:
    job, index = Job.model_validate(read_yaml(run.config)), ImageIndex.read(run.index)
    truth = Truth.of(index)
    assert truth is not None
    blocks = columns(truth.yaw, truth.test, count)
    high = len(methods) * SIDE + GAP
    sheet = Image.new("RGB", (COLUMNS * SIDE, len(blocks) * high - GAP), "white")
    for block, rows in enumerate(blocks):
        for line, method in enumerate(methods):
            for column, picture in enumerate(draw(index, run, job.data.size, method, rows)):
                sheet.paste(picture, (column * SIDE, block * high + line * SIDE))
    return sheet


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("run")
    options.add_argument("output")
    options.add_argument("--methods", nargs="+", default=["control", "d_uld_pp"])
    options.add_argument("--rows", type=int, default=3)
    given = options.parse_args()
    page(RunFolder(given.run), given.methods, given.rows).save(given.output, quality=85)


if __name__ == "__main__":
    main()
