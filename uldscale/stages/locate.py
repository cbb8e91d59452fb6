"""Landmarks of every trained method on every image, from stored features, with a probe of each on a few."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from uldscale import files, probes
from uldscale.data.index import ImageIndex
from uldscale.detector import LandmarkDetector, Landmarks
from uldscale.predictions import Predictions
from uldscale.probes import Probe
from uldscale.runs import RunFolder
from uldscale.runtime.progress import Progress
from uldscale.store.features import FeatureStore
from uldscale.store.reader import FeatureReader

CHUNK = 64
MOVED = 1
"""The view of the store that consistency compares with the image."""

PREDICTIONS, PROBE, DETECTOR = "predictions.parquet", "probe.safetensors", "config.json"
"""Files of a method's folder: its landmarks, its probe, and what is there when it has a detector."""


def locate(index: ImageIndex, store: FeatureStore, run: RunFolder) -> None:
    """Write predictions and probe of every method that has a detector; does what is missing."""
    for method in files.names(run.methods):
        folder = run.method(method)
        if files.exists(files.join(folder, DETECTOR)):
            seeker = Seeker(LandmarkDetector.load(folder), FeatureReader(store), method)
            if not files.exists(files.join(folder, PREDICTIONS)):
                _predictions(seeker, index).write(files.join(folder, PREDICTIONS))
            if not files.exists(files.join(folder, PROBE)):
                _probe(seeker, store, probes.sample(index)).write(files.join(folder, PROBE))


@dataclass(frozen=True)
class Seeker:
    """Finds landmarks of one method on stored views."""

    detector: LandmarkDetector
    reader: FeatureReader
    method: str

    def __call__(self, rows: NDArray[np.int64], view: int, *fields: str) -> list[NDArray[Any]]:
        """The wanted fields of Landmarks, over all rows."""
        parts: list[list[NDArray[Any]]] = []
        with Progress(f"locate {self.method}", len(rows)) as progress:
            for found in self._parts(rows, view):
                parts.append([getattr(found, field) for field in fields])
                progress.advance(len(found.points))
        return [np.concatenate(values) for values in zip(*parts, strict=True)]

    def _parts(self, rows: NDArray[np.int64], view: int) -> Iterator[Landmarks]:
        for _, maps in self.reader.in_parts(rows, CHUNK, view):
            yield self.detector.locate({name: torch.from_numpy(values) for name, values in maps.items()})


def _predictions(seeker: Seeker, index: ImageIndex) -> Predictions:
    points, poses = seeker(index.rows(), 0, "points", "poses")
    return Predictions([index.row(int(row)).id for row in index.rows()], points, poses)


def _probe(seeker: Seeker, store: FeatureStore, rows: NDArray[np.int64]) -> Probe:
    (moved,) = seeker(rows, MOVED, "points")
    (descriptors,) = seeker(rows, 0, "descriptors")
    return Probe(rows, moved, store.views()[rows, MOVED], descriptors.astype(np.float16))
