"""Landmarks of every trained method on every image, from stored features, with a probe of each on a few."""

import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from uldscale import files, probes
from uldscale.data.index import ImageIndex
from uldscale.detector import LandmarkDetector
from uldscale.predictions import Predictions
from uldscale.probes import Probe
from uldscale.runs import RunFolder
from uldscale.runtime.alone import Alone, pool
from uldscale.runtime.cache import CacheConfig
from uldscale.runtime.cluster import device
from uldscale.runtime.pool import Pool
from uldscale.runtime.progress import Progress
from uldscale.runtime.roles import RuntimeConfig
from uldscale.stages.seeking import Chunk, SeekingWorker, forget, lacks, seek, sought
from uldscale.store.features import FeatureStore
from uldscale.store.reader import FeatureReader

MOVED = 1
"""The view of the store that consistency compares with the image."""

PREDICTIONS, PROBE, DETECTOR = "predictions.parquet", "probe.safetensors", "config.json"
"""Files of a method's folder: its landmarks, its probe, and what is there when it has a detector."""


def locate(index: ImageIndex, store: FeatureStore, run: RunFolder, runtime: RuntimeConfig, *, all_rows: bool) -> None:
    """Write predictions and probe of every method that has a detector; does what is missing. One process at a time.

    The actors of `runtime.locate` do it, or without that role this process. `all_rows`: see EvaluateConfig.
    """
    rows, probed = sought(index, all_rows), probes.sample(index)
    lacking = [method for method in files.names(run.methods) if _lacks(run.method(method), rows)]
    if not lacking:
        return
    gpus = runtime.locate.gpus if runtime.locate else 0.0
    total = len(lacking) * (len(rows) + 2 * len(probed))
    with (
        pool(Blueprint(store.root, store.cache, gpus), "locate", runtime) as workers,
        Progress("locate", total, run.progress) as progress,
    ):
        for number, method in enumerate(lacking, start=1):
            named = f"{method} ({number} of {len(lacking)} methods)"
            progress.advance(0, f"landmarks of {named}")
            folder = run.method(method)
            points, poses, seen = seek(workers, folder, rows, 0, ("points", "poses", "visibility"), progress)
            ids = [index.row(int(row)).id for row in rows]
            Predictions(ids, points, poses, seen).write(files.join(folder, PREDICTIONS))
            progress.advance(0, f"moved views and descriptors of {named}")
            _probe(workers, folder, store, probed, progress).write(files.join(folder, PROBE))
            forget(folder)


def _lacks(folder: str, rows: NDArray[np.int64]) -> bool:
    detector, predictions, probe = (files.join(folder, name) for name in (DETECTOR, PREDICTIONS, PROBE))
    return files.exists(detector) and (lacks(predictions, rows) or not files.exists(probe))


def _probe(
    workers: Pool | Alone, folder: str, store: FeatureStore, rows: NDArray[np.int64], progress: Progress
) -> Probe:
    (moved,) = seek(workers, folder, rows, MOVED, ("points",), progress)
    (descriptors,) = seek(workers, folder, rows, 0, ("descriptors",), progress)
    return Probe(rows, moved, store.views()[rows, MOVED], descriptors.astype(np.float16))


@dataclass(frozen=True)
class Blueprint:
    """Builds a worker in the process that shall work."""

    root: str
    cache: CacheConfig | None
    gpus: float
    """Of that process."""

    def __call__(self) -> SeekingWorker:
        return SeekingWorker(Locator(self))


class Locator:
    """Finds the landmarks of methods on stored views."""

    def __init__(self, blueprint: Blueprint) -> None:
        self._blueprint = blueprint
        # Methods come one after the other, but two of them meet in the items of a pool.
        self._detector = lru_cache(maxsize=2)(self._load)
        self._computing = threading.Lock()

    def setup(self) -> None:
        """Open the store."""
        self._reader = FeatureReader(FeatureStore.open(self._blueprint.root, self._blueprint.cache))

    def seek(self, chunk: Chunk) -> dict[str, NDArray[Any]]:
        """The wanted fields of Landmarks."""
        rows = np.array(chunk.rows)
        maps = self._reader.read(rows, np.full_like(rows, chunk.view))
        with self._computing:
            found = self._detector(chunk.method).locate({name: torch.from_numpy(part) for name, part in maps.items()})
        return {field: getattr(found, field) for field in chunk.fields}

    def _load(self, folder: str) -> LandmarkDetector:
        return LandmarkDetector.from_pretrained(folder, device=str(device(self._blueprint.gpus)))
