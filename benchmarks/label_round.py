"""What does a round of pseudo-labels cost on many ranks: seconds, bytes, and memory of the service?

    python benchmarks/label_round.py [--images 50000 230000] [--ranks 1 8 64]

Ranks are simulated one after the other, on made-up keypoints (16 an image, 128 numbers each, ten landmarks in each of ten poses): what each
of them does after it has described its images. The service is a process of its own, which gets the sample as bytes. A model with one
coefficient for each kind of work is made from the largest number of images on one rank, and compared with all points: seconds of a round
are those of the slowest rank with those of the service. Prints one JSON line.
"""

import argparse
import json
import multiprocessing
import os
import pickle
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from uldscale import labels
from uldscale.clustering.two_stage import ClusterConfig
from uldscale.labels import Labels, blocks
from uldscale.runs import RunFolder
from uldscale.stages.relabel import Relabeller
from uldscale.store.sampling import share
from uldscale.training import sample as sampling
from uldscale.training.description import Keypoints
from uldscale.training.labelling import Labelling
from uldscale.training.schedule import Stage

KEYPOINTS, SIZE, LATENT, POSES, LANDMARKS = 16, 128, 64, 10, 10
MISSING = 0.1
"""Share of the landmarks that images lacked in the round before."""
NETWORK = 1e9
"""Bytes a second that the service takes in, for the model: 10 GbE."""
BATCH = 192

_Result = TypeVar("_Result")


def made(rows: np.ndarray[Any, Any]) -> Keypoints:
    """Keypoints of some images, which depend on their rows alone."""
    shared, own = np.random.default_rng(0), np.random.default_rng([1, int(rows[0])])
    centres, codes = shared.normal(size=(POSES, LANDMARKS, SIZE)), shared.normal(size=(POSES, LATENT))
    pose, landmark = rows % POSES, own.integers(LANDMARKS, size=(len(rows), KEYPOINTS))
    noise = own.standard_normal((len(rows), KEYPOINTS, SIZE), np.float32)
    descriptors = centres[pose[:, None], landmark].astype(np.float32) + noise
    descriptors /= np.linalg.norm(descriptors, axis=-1, keepdims=True)
    count = len(rows) * KEYPOINTS
    places = own.random((len(rows), LANDMARKS, 2), np.float32)
    places[own.random((len(rows), LANDMARKS)) < MISSING] = np.nan
    return Keypoints(
        rows=rows, codes=(codes[pose] + 0.3 * own.normal(size=(len(rows), LATENT))).astype(np.float32),
        row=np.repeat(rows, KEYPOINTS), points=own.random((count, 2), np.float32), scores=np.ones(count, np.float32),
        descriptors=descriptors.reshape(-1, SIZE), places=places, poses=pose, anchors=None,
    )  # fmt: skip


def timed(work: Callable[..., _Result], *arguments: Any) -> tuple[_Result, float]:
    start = time.perf_counter()
    return work(*arguments), time.perf_counter() - start


class Counts:
    """Stands for what ranks add up in `sample`: first each gives its own, then all get the sum."""

    def __init__(self) -> None:
        self.sum = torch.zeros(1, sampling.BINS, dtype=torch.int64)
        self.known = False

    def __call__(self, own: torch.Tensor) -> torch.Tensor:
        if not self.known:
            self.sum += own
        return self.sum


def serve(parts: Sequence[bytes], folder: str, answer: Any) -> None:
    """The service: fits what it was sent."""
    relabeller = Relabeller(ClusterConfig(), RunFolder(folder), seed=0)
    for rank, part in enumerate(parts):
        relabeller.add(rank, pickle.loads(part))
    count = len(parts)
    del parts
    _, seconds = timed(relabeller.make, Stage.D_ULD_PP, 0, None, count)
    # Not getrusage: that of a process begins with what its parent held.
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    answer.send((seconds, 1024 * int(peak)))


def fitted(parts: list[bytes], folder: str) -> tuple[float, int]:
    """Seconds of a fit, and the memory of its process."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(parts, folder, there))
    process.start()
    answer: tuple[float, int] = here.recv()
    process.join()
    return answer


def round_of(images: int, ranks: int) -> dict[str, Any]:
    """One round."""
    device, limit, own = torch.device("cpu"), ClusterConfig().sample, blocks(images)
    mine = [[own[block] for block in share(np.arange(len(own)), rank, ranks)] for rank in range(ranks)]
    rows = [np.concatenate([np.arange(block.start, block.stop) for block in each]) for each in mine]
    counts = sampling.gather = Counts()  # type: ignore[assignment]
    for each in rows:
        sampling.sample([made(each)], limit, seed=0, device=device)
    counts.known = True
    parts, sample_seconds = [], []
    for each in rows:
        keypoints = made(each)
        part, seconds = timed(lambda keypoints=keypoints: sampling.sample([keypoints], limit, seed=0, device=device))
        parts.append(pickle.dumps(part, protocol=5))
        sample_seconds.append(seconds)
    with tempfile.TemporaryDirectory() as folder:
        fit_seconds, memory = fitted(parts, folder)
        labelling, pull_seconds = timed(
            lambda: Labelling.from_arrays(labels.read_labelling(RunFolder(folder).labels, 0))
        )
        sent = sum(map(len, parts))
        del parts
        written = [
            assigned(labelling, made(each), of_rank, folder, images) for each, of_rank in zip(rows, mine, strict=True)
        ]
        opened = Labels.open(RunFolder(folder).labels, 0, valid=False)
        _, batch_seconds = timed(opened.points, np.sort(np.random.default_rng(0).choice(images, BATCH, replace=False)))
        size = sum(os.path.getsize(os.path.join(place, name)) for place, _, names in os.walk(folder) for name in names)
    slowest = {name: max(part[name] for part in written) for name in ("assign", "write")}
    seconds = {
        "sample": max(sample_seconds),
        "send": sent / NETWORK,
        "fit": fit_seconds,
        "pull": pull_seconds,
        **slowest,
    }
    return {
        "images": images,
        "ranks": ranks,
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
        "round_seconds": round(sum(seconds.values()), 3),
        "sent_mb": round(sent / 1e6, 1),
        "service_mb": round(memory / 1e6),
        "labels_mb": round(size / 1e6, 1),
        "labels_of_a_batch_ms": round(1000 * batch_seconds, 2),
    }


def assigned(
    labelling: Labelling, keypoints: Keypoints, own: Sequence[range], folder: str, images: int
) -> dict[str, float]:
    """Seconds in which a rank labels its images, and writes them."""
    round = Labels.create(RunFolder(folder).labels, 0, images, labelling.count, LATENT)
    spent = {"assign": 0.0, "write": 0.0}
    for block in own:
        some = keypoints.on((keypoints.rows >= block.start) & (keypoints.rows < block.stop))
        found, seconds = timed(labelling, some)
        spent["assign"] += seconds
        spent["write"] += timed(round.write, block, found)[1]
    return spent


def model(measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Seconds a round of images N on ranks R: fit + pull + (sample + assign + write) N / R, with the sample full."""
    base = max(measured, key=lambda point: (point["images"], -point["ranks"]))
    seconds = base["seconds"]
    each = sum(seconds[name] for name in ("sample", "assign", "write")) / base["images"]
    constant = seconds["fit"] + seconds["pull"] + seconds["send"]

    def predicted(images: int, ranks: int) -> float:
        return round(constant + each * images / ranks, 2)

    full = [point for point in measured if point["sent_mb"] > 0.9 * base["sent_mb"]]
    return {
        "microseconds_an_image": round(1e6 * each, 1),
        "constant_seconds": round(constant, 2),
        "against_measured": [
            {
                "images": point["images"],
                "ranks": point["ranks"],
                "ratio": round(predicted(point["images"], point["ranks"]) / point["round_seconds"], 3),
            }
            for point in full
        ],
        "512_ranks_100M_images": predicted(100_000_000, 512),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--images", type=int, nargs="+", default=[50_000, 230_000])
    options.add_argument("--ranks", type=int, nargs="+", default=[1, 8, 64])
    given = options.parse_args()
    measured = [round_of(images, ranks) for images in given.images for ranks in given.ranks]
    print(json.dumps({"measured": measured, "model": model(measured), "cpus": os.cpu_count()}))


if __name__ == "__main__":
    main()
