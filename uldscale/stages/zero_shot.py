"""The verb behind the ZeroShot baseline (paper, Section 3.1): random pixels, k-means, nearest centroid, exemplars.

The paper's text trains nothing here but uses the aggregated map. Features are instead mixed without parameters: each tap at each
timestep has unit norm and counts the same.

B images, M sampled pixels, K landmarks, F size of the mixed descriptor.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from uldscale import files, probes
from uldscale.clustering.exemplars import keep
from uldscale.clustering.kmeans import assign, fit
from uldscale.config import Settings
from uldscale.data.index import ImageIndex
from uldscale.errors import UserError
from uldscale.models.uniform import uniform_descriptors
from uldscale.predictions import Predictions
from uldscale.probes import Probe
from uldscale.runs import RunFolder
from uldscale.runtime import environment
from uldscale.runtime.alone import pool
from uldscale.runtime.cache import CacheConfig
from uldscale.runtime.progress import Progress
from uldscale.runtime.roles import RuntimeConfig
from uldscale.stages.locate import MOVED, PREDICTIONS, PROBE
from uldscale.stages.seeking import CHUNK, Chunk, SeekingWorker, forget, lacks, seek, sought
from uldscale.store.features import FeatureStore
from uldscale.store.reader import FeatureReader

METHOD = "zero_shot"


class ZeroShotConfig(Settings):
    """Settings of the baseline; it has as many landmarks as are trained (`train.clusters.landmarks`)."""

    fit_images: int = Field(default=600, ge=1)
    """Training images whose pixels are clustered."""
    fit_pixels: int = Field(default=100, ge=1)
    """Random pixels of each of them."""
    pixels: int = Field(default=400, ge=1)
    """Random pixels of each image in which landmarks are sought."""
    seed: int = Field(default=0, ge=0)


class _Sampler:
    """Descriptors at random pixels of images."""

    def __init__(self, store: FeatureStore, seed: int, border: float) -> None:
        self.reader, self.seed, self.border = FeatureReader(store), seed, border
        self.scales = {name: torch.from_numpy(steps) for name, steps in store.scales().items()}

    def __call__(
        self, rows: NDArray[np.int64], count: int, view: int = 0
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Pixels (B, count, 2) inside the border, drawn for each view on its own, and their descriptors (B, count, F)."""
        seeds = [[self.seed, int(row), *([view] if view else [])] for row in rows]
        drawn = np.stack([np.random.default_rng(seed).random((count, 2), np.float32) for seed in seeds])
        points = self.border + (1 - 2 * self.border) * drawn
        maps = self.reader.read(rows, np.full_like(rows, view))
        features = {name: torch.from_numpy(values) for name, values in maps.items()}
        return points, uniform_descriptors(features, self.scales, torch.from_numpy(points)).numpy()


@dataclass(frozen=True)
class Finder:
    """Builds, in the process that shall work, what finds the landmarks of the baseline on any view of a store."""

    config: ZeroShotConfig
    root: str
    cache: CacheConfig | None
    border: float
    centroids: NDArray[np.float32]
    """(K, F)"""

    @classmethod
    def of(
        cls, config: ZeroShotConfig, landmarks: int, index: ImageIndex, store: FeatureStore, border: float
    ) -> "Finder":
        """With the centroids of the pixels of training images."""
        centroids = _centroids(config, landmarks, index, _Sampler(store, config.seed, border))
        return cls(config, store.root, store.cache, border, centroids)

    def __call__(self) -> SeekingWorker:
        return SeekingWorker(FinderAtWork(self))


class FinderAtWork:
    """Finds the landmarks of the baseline."""

    def __init__(self, finder: Finder) -> None:
        self._finder = finder

    def setup(self) -> None:
        """Open the store."""
        finder = self._finder
        self._sampler = _Sampler(FeatureStore.open(finder.root, finder.cache), finder.config.seed, finder.border)

    def seek(self, chunk: Chunk) -> dict[str, NDArray[Any]]:
        """Of the fields points (B, K, 2), in unit coordinates, and descriptors (B, K, F) the wanted ones; NaN where missing."""
        found = _landmarks(
            *self._sampler(np.array(chunk.rows), self._finder.config.pixels, chunk.view), self._finder.centroids
        )
        fields = dict(zip(("points", "descriptors"), found, strict=True))
        return {name: fields[name] for name in chunk.fields}


def zero_shot(
    config: ZeroShotConfig,
    landmarks: int,
    index: ImageIndex,
    store: FeatureStore,
    border: float,
    run: RunFolder,
    runtime: RuntimeConfig,
    *,
    all_rows: bool,
) -> None:
    """Cluster pixels of the training images, then find K `landmarks` on images (`all_rows`: see EvaluateConfig); writes predictions
    and probe.

    The actors of `runtime.locate` find them, or without that role this process. Raises UserError when the store lacks the view on
    which methods are probed.
    """
    folder = run.method(METHOD)
    predictions, probe = (files.join(folder, name) for name in (PREDICTIONS, PROBE))
    rows, probed = sought(index, all_rows), probes.sample(index)
    if not lacks(predictions, rows):
        return
    if store.spec.num_views <= MOVED:
        raise UserError(
            f"ZeroShot is probed on a moved view, but {store.root} has {store.spec.num_views} view of each image; "
            f"set extract.views.count to {MOVED + 1} or more"
        )
    with Progress(METHOD, len(rows) + 2 * len(probed), run.progress) as progress:
        with environment.given(gpus=0):
            finder = Finder.of(config, landmarks, index, store, border)
        with pool(finder, "locate", runtime) as workers:
            (moved,) = seek(workers, folder, probed, MOVED, ("points",), progress)
            (descriptors,) = seek(workers, folder, probed, 0, ("descriptors",), progress)
            (points,) = seek(workers, folder, rows, 0, ("points",), progress)
    Probe(probed, moved, store.views()[probed, MOVED], descriptors.astype(np.float16)).write(probe)
    ids = [index.row(int(row)).id for row in rows]
    Predictions(ids, points, np.zeros(len(rows), np.int64)).write(predictions)
    forget(folder)


def _centroids(config: ZeroShotConfig, landmarks: int, index: ImageIndex, sampler: _Sampler) -> NDArray[np.float32]:
    train = index.rows("train")
    count = min(config.fit_images, len(train))
    rows = np.sort(np.random.default_rng(config.seed).choice(train, count, replace=False))
    chunks = [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]
    descriptors = np.concatenate([sampler(chunk, config.fit_pixels)[1] for chunk in chunks])
    return fit(descriptors.reshape(-1, descriptors.shape[-1]), landmarks, seed=config.seed)


def _landmarks(
    points: NDArray[np.float32], descriptors: NDArray[np.float32], centroids: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """For each cluster the pixel of each image that is nearest to the centroid: (B, K, 2), and its descriptor (B, K, F).

    NaN where no pixel of the image is in the cluster.
    """
    num_images, count = points.shape[:2]
    labels, distances = assign(descriptors.reshape(num_images * count, -1), centroids)
    image = np.repeat(np.arange(num_images), count)
    kept = keep(image, labels, distances)
    found = np.full((num_images, len(centroids), 2), np.nan, np.float32)
    described = np.full((num_images, len(centroids), descriptors.shape[-1]), np.nan, np.float32)
    found[image[kept], labels[kept]] = points.reshape(-1, 2)[kept]
    described[image[kept], labels[kept]] = descriptors.reshape(num_images * count, -1)[kept]
    return found, described
