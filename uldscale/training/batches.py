"""Training batches: two views of each image, with their transforms and pseudo-labels.

Law: a batch is a pure function of (stage, step, labels); nothing here has state. So a resumed run sees the same batches, and the
shares of all ranks together are the batch that one rank would see.

B images of this rank's share, V views, K landmarks.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uldscale.clustering.two_stage import Clustering
from uldscale.errors import DataError
from uldscale.labels import Labels
from uldscale.store.features import FeatureStore
from uldscale.store.reader import FeatureReader
from uldscale.store.sampling import Balanced, Shuffled, share
from uldscale.training.schedule import CLUSTERING, Stage

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """One rank's share of a global batch."""

    features: dict[str, Tensor]
    """Stored maps (2 B, T, L, C, H, W) by resolution: the first view of every image, then the second view of every image."""
    matrices: Tensor
    """(2, B, 3, 3) unit coordinates of view 0 to those of the view."""
    points: Tensor
    """(B, K, 2) labelled points in view 0, NaN where missing; K = 0 without labels."""
    poses: Tensor
    """(B,) pose of each image, 0 without labels."""
    noise: Tensor
    """(B, Z) standard normal numbers for the pose VAE."""
    images: tuple[int, ...]
    """B of every rank."""

    @property
    def nbytes(self) -> int:
        """Bytes of the features."""
        return sum(maps.nbytes for maps in self.features.values())

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""
        features = {name: maps.to(device, non_blocking=True) for name, maps in self.features.items()}
        others = {name: getattr(self, name).to(device) for name in ("matrices", "points", "poses", "noise")}
        return replace(self, features=features, **others)


@dataclass(frozen=True)
class _Draw:
    rows: Integers
    views: Integers
    noise: NDArray[np.float32]


class Batches:
    """Draws, reads and completes batches of the training rows of a store."""

    def __init__(
        self,
        store: FeatureStore,
        rows: Integers,
        *,
        batch: int,
        latent: int,
        seed: int,
        rank: int,
        world: int,
        pinned: bool = False,
    ) -> None:
        """`pinned`: batches are on their way to a GPU."""
        # From pinned memory a copy to a GPU runs beside the computation; torch keeps the memory until it is over.
        self._reader = FeatureReader(store, _pinned if pinned else None)
        self._shard_rows = store.spec.shard_rows
        self._matrices = store.views()
        self._rows, self._batch, self._latent = rows, batch, latent
        self._seed, self._rank, self._world = seed, rank, world
        self._images = tuple(len(share(np.arange(batch), each, world)) for each in range(world))

    def __call__(self, stage: Stage, steps: range, labels: Labels | None) -> Iterator[Batch]:
        """The batches of some steps of a stage, read ahead."""
        seed = int(np.random.SeedSequence([self._seed, list(Stage).index(stage)]).generate_state(1)[0])
        source = self._source(stage, seed, labels)
        draws = [self._draw(stage, step, seed, source) for step in steps]
        requests = [(np.tile(draw.rows, 2), draw.views.reshape(-1)) for draw in draws]
        for draw, features in zip(draws, self._reader.prefetch(requests), strict=True):
            yield self._complete(draw, features, labels)

    def _draw(self, stage: Stage, step: int, seed: int, source: Shuffled | Balanced) -> _Draw:
        """Rows (B,), views (2, B) and noise of this rank at a step."""
        random = np.random.default_rng([seed, step])
        rows = source.draw(self._batch, step)
        views = _pairs(self._matrices.shape[1], len(rows), random)
        if stage in (Stage.POSE_PROXY, Stage.D_ULD_PP, Stage.FULL_VAE):
            # The pose code belongs to the image as it is: view 0 comes first, so that codes never mix with random rotations.
            views[1] = np.where(views[0] == 0, views[1], views[0])
            views[0] = 0
        noise = random.standard_normal((len(rows), self._latent), np.float32)
        mine = share(np.arange(len(rows)), self._rank, self._world)
        return _Draw(rows[mine], views[:, mine], noise[mine])

    def _source(self, stage: Stage, seed: int, labels: Labels | None) -> Shuffled | Balanced:
        if labels is None:
            return Shuffled(self._rows, self._shard_rows, seed)
        labelled = self._rows[labels.poses[self._rows] >= 0]
        if CLUSTERING[stage] is Clustering.TWO_STAGE:
            try:
                return Balanced(labelled, labels.poses[labelled], self._shard_rows, seed)
            except ValueError as error:
                raise DataError(
                    f"no pose has two images with labels, which stage {stage} compares ({error}); lower train.clusters.poses or add images"
                ) from error
        return Shuffled(labelled, self._shard_rows, seed)

    def _complete(self, draw: _Draw, features: dict[str, NDArray[np.generic]], labels: Labels | None) -> Batch:
        rows = draw.rows
        points = np.zeros((len(rows), 0, 2), np.float32) if labels is None else labels.points(rows)
        poses = np.zeros(len(rows), np.int64) if labels is None else labels.poses[rows]
        return Batch(
            features={name: torch.from_numpy(maps) for name, maps in features.items()},
            matrices=torch.from_numpy(self._matrices[rows[None], draw.views]),
            points=torch.from_numpy(points),
            poses=torch.from_numpy(poses),
            noise=torch.from_numpy(draw.noise),
            images=self._images,
        )


def _pinned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    kind = torch.from_numpy(np.empty(0, dtype)).dtype
    memory: NDArray[Any] = torch.empty(shape, dtype=kind, pin_memory=True).numpy()
    return memory


def _pairs(num_views: int, count: int, random: np.random.Generator) -> Integers:
    """Two different views for each of `count` images: (2, count)."""
    first = random.integers(num_views, size=count)
    second = (first + random.integers(1, num_views, size=count)) % num_views
    return np.stack([first, second])
