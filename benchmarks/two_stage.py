"""How fast is two-stage clustering of a data set as large as LS3D, against plain scikit-learn and FAISS?

    pip install faiss-cpu
    python benchmarks/two_stage.py [--images 230000]

Made-up descriptors of 16 keypoints an image, unit-norm, 128 numbers, in ten overlapping clusters in each of ten poses, and pose codes
of 32 numbers. Codes are clustered into ten poses, then the descriptors of each pose into ten landmarks, all of them, each with its label:
by us with four starts, by the others with one and whatever their defaults say, but that FAISS must take all points. They take turns
pose by pose, in the same poses, so that a busy machine hits all alike; seconds of processor time are given, too. Inertia is measured
in float64 from the centroids, for all the same way. FAISS is left out where it is not installed. Memory: 4.5 GB at full size.
Prints one JSON line.
"""

import argparse
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from importlib.metadata import distributions
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_info

from uldscale.clustering import kmeans

KEYPOINTS, SIZE, POSES, LANDMARKS, CODE = 16, 128, 10, 10, 32
NOISE = 1.5
"""Of a descriptor beside its centre of length 1, before it is brought to unit norm."""
LIBRARIES = ("numpy", "scikit-learn", "faiss-cpu")

Points = NDArray[np.float32]
Peer = Callable[[Points, int, int], tuple[Points, NDArray[np.integer]]]
"""Centroids and labels of points, for a number of clusters and a seed."""


def made(images: int, random: np.random.Generator) -> tuple[Points, NDArray[np.int64], Points]:
    """Descriptors, the image of each, and codes of images."""
    pose = random.integers(POSES, size=images)
    centres = unit(random.normal(size=(1, LANDMARKS, SIZE)) + 0.7 * random.normal(size=(POSES, LANDMARKS, SIZE)))
    axes = np.linalg.qr(random.normal(size=(SIZE, SIZE)))[0] * np.arange(1, SIZE + 1)[:, None] ** -0.5
    spread = (NOISE * axes / np.linalg.norm(axes)).astype(np.float32)
    descriptors = np.empty((images, KEYPOINTS, SIZE), np.float32)
    for start in range(0, images, 4096):
        rows = slice(start, start + 4096)
        landmark = random.integers(LANDMARKS, size=(len(pose[rows]), KEYPOINTS))
        noise = random.standard_normal((*landmark.shape, SIZE), dtype=np.float32) @ spread
        descriptors[rows] = unit(centres[pose[rows, None], landmark] + noise)
    codes = random.normal(size=(POSES, CODE))[pose] + random.normal(size=(images, CODE))
    return descriptors.reshape(-1, SIZE), np.repeat(np.arange(images), KEYPOINTS), codes.astype(np.float32)


def unit(vectors: NDArray[np.floating]) -> Points:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def uldscale(points: Points, k: int, seed: int) -> tuple[Points, NDArray[np.integer]]:
    centroids = kmeans.fit(points, k, seed=seed)
    return centroids, kmeans.assign(points, centroids)[0]


def scikit_learn(points: Points, k: int, seed: int) -> tuple[Points, NDArray[np.integer]]:
    model = KMeans(k, random_state=seed).fit(points)
    return model.cluster_centers_, model.labels_


def faiss(points: Points, k: int, seed: int) -> tuple[Points, NDArray[np.integer]]:
    from faiss import Kmeans

    model = Kmeans(points.shape[1], k, seed=seed, max_points_per_centroid=len(points))
    model.train(points)
    return model.centroids, model.index.search(points, 1)[1][:, 0]


def inertia(points: Points, centroids: Points, labels: NDArray[np.integer]) -> float:
    total = 0.0
    for start in range(0, len(points), 65_536):
        rows = slice(start, start + 65_536)
        total += float(np.square(points[rows] - centroids[labels[rows]], dtype=np.float64).sum())
    return total


def processor_seconds() -> float:
    spent = os.times()
    return spent.user + spent.system


class Race:
    """Clusterings by all peers in turns."""

    def __init__(self, peers: list[Peer]) -> None:
        self.peers = peers
        self.wall: dict[str, list[float]] = defaultdict(list)
        self.processor: dict[str, list[float]] = defaultdict(list)
        self.inertia: dict[str, list[float]] = defaultdict(list)

    def run(self, points: Points, k: int, seed: int) -> NDArray[np.integer]:
        """Labels of the first peer."""
        turn = seed % len(self.peers)
        found = {}
        for peer in self.peers[turn:] + self.peers[:turn]:
            start, spent = time.perf_counter(), processor_seconds()
            centroids, found[peer] = peer(points, k, seed)
            self.wall[peer.__name__].append(time.perf_counter() - start)
            self.processor[peer.__name__].append(processor_seconds() - spent)
            self.inertia[peer.__name__].append(inertia(points, centroids, found[peer]))
            print(peer.__name__, len(points), *(series[peer.__name__][-1] for series in self.series), file=sys.stderr)
        return found[self.peers[0]]

    @property
    def series(self) -> tuple[dict[str, list[float]], ...]:
        return self.wall, self.processor, self.inertia

    def report(self) -> dict[str, Any]:
        """Of the whole, the first clustering being that of codes."""
        wall, processor = (
            {name: round(sum(values), 2) for name, values in series.items()} for series in (self.wall, self.processor)
        )
        first, *others = wall
        return {
            "seconds": wall,
            "processor_seconds": processor,
            "times_as_fast": {name: round(wall[name] / wall[first], 2) for name in others},
            "times_as_fast_each": {name: quartiles(self.wall[name], self.wall[first]) for name in others},
            "inertia_over": {
                stage: {name: round(sum(ours) / sum(self.inertia[name][part]) - 1, 5) for name in others}
                for stage, part in {"poses": slice(1), "landmarks": slice(1, None)}.items()
                for ours in [self.inertia[first][part]]
            },
        }


def quartiles(theirs: list[float], ours: list[float]) -> list[float]:
    """Of the ratios of single clusterings, the lower quartile, the median and the upper quartile."""
    ratios = np.divide(theirs, ours)
    return [round(float(value), 2) for value in np.percentile(ratios, [25, 50, 75])]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--images", type=int, default=230_000)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    peers = [uldscale, scikit_learn, *([faiss] if find_spec("faiss") else [])]
    descriptors, images, codes = made(given.images, np.random.default_rng(given.seed))
    race = Race(peers)
    pose_of_keypoint = race.run(codes, POSES, given.seed)[images]
    for pose in range(POSES):
        race.run(descriptors[pose_of_keypoint == pose], LANDMARKS, given.seed + 1 + pose)
    threads = max(library["num_threads"] for library in threadpool_info())
    versions = {library.name: library.version for library in distributions() if library.name in LIBRARIES}
    setting = {"images": given.images, "descriptors": len(descriptors), "seed": given.seed, "threads": threads}
    print(json.dumps({**race.report(), **setting, "cpus": os.cpu_count(), "versions": versions}))


if __name__ == "__main__":
    main()
