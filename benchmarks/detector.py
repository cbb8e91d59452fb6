"""What does LandmarkDetector cost beside its parts, called by hand?

    python benchmarks/detector.py runs/demo/model [--images 1000] [--batches 1 32]

PNG files of generated faces, read from the page cache. Both ways see the same images in the same batches, one call a batch, and
take turns in going first; by hand, that is Pillow, the diffusion model, the codec, the network and the place of landmarks, with
nothing made twice. Prints one JSON line: images a second of both, and the share of the speed by hand that the detector has;
once more in seconds of the processor, which what else runs on a machine changes less.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from uldscale.clustering.two_stage import assign_poses
from uldscale.data.faces3d import render
from uldscale.detector import LandmarkDetector
from uldscale.diffusion.backbone import Backbone
from uldscale.diffusion.extractor import Extractor
from uldscale.models.keypoints import inside_border
from uldscale.models.landmarks import locate

FACES = 50
"""That differ; each is written several times."""
Way = Callable[[Sequence[str]], np.ndarray]


def written(folder: Path, count: int, size: int) -> list[str]:
    paths = [folder / f"{number:05d}.png" for number in range(count)]
    faces = [Image.fromarray(render(seed, size=size).image) for seed in range(min(FACES, count))]
    for number, path in enumerate(paths):
        faces[number % len(faces)].save(path)
    return [str(path) for path in paths]


def by_hand(detector: LandmarkDetector, batch: int) -> Way:
    config, network = detector.config, detector.network
    extractor = Extractor(Backbone.load(config.features.backbone), config.features.updated(batch=batch, compile=False))
    side = (config.image_size, config.image_size)

    @torch.no_grad()
    def find(paths: Sequence[str]) -> np.ndarray:
        images = [Image.open(path).convert("RGB") for path in paths]
        crops = np.stack([np.asarray(image.resize(side, Image.Resampling.BICUBIC)) for image in images])
        maps = extractor.encode(crops, ["image"] * len(crops), detector._codec)
        outputs = network({name: torch.from_numpy(values) for name, values in maps.items()})
        poses = assign_poses(network.codes(outputs.logits).numpy(), detector.clusters)
        heat, centroids = outputs.logits.sigmoid(), torch.from_numpy(detector.clusters.centroids[poses])
        inside = inside_border(heat, config.border)
        points = locate(heat, outputs.descriptors, centroids, inside, config.keypoints.visible).points
        return points.numpy() * [image.size for image in images][0]

    return find


def compared(detector: LandmarkDetector, paths: Sequence[str], batch: int) -> dict[str, float]:
    ways: dict[str, Way] = {
        "detector": lambda some: detector(some, batch_size=batch).points,
        "by hand": by_hand(detector, batch),
    }
    parts = [paths[start : start + batch] for start in range(0, len(paths), batch)]
    # Once without a clock: the detector loads its diffusion model at the first call, kernels are chosen.
    first = [way(parts[0]) for way in ways.values()]
    np.testing.assert_allclose(*first, atol=1e-3)
    seconds, busy = dict.fromkeys(ways, 0.0), dict.fromkeys(ways, 0.0)
    for number, part in enumerate(parts):
        for name in list(ways)[:: 1 if number % 2 else -1]:
            start, start_busy = time.perf_counter(), time.process_time()
            ways[name](part)
            seconds[name] += time.perf_counter() - start
            busy[name] += time.process_time() - start_busy
    speeds = {name: round(len(paths) / each, 2) for name, each in seconds.items()}
    ratio, of_processor = (each["by hand"] / each["detector"] for each in (seconds, busy))
    return {**speeds, "ratio": round(ratio, 3), "ratio of processor": round(of_processor, 3)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32])
    given = parser.parse_args()
    detector = LandmarkDetector.from_pretrained(given.model)
    result: dict[str, Any] = {
        "images": given.images,
        "size": detector.config.image_size,
        "threads": torch.get_num_threads(),
    }
    with tempfile.TemporaryDirectory() as folder:
        paths = written(Path(folder), given.images, detector.config.image_size)
        for batch in given.batches:
            result[f"batch {batch}"] = compared(detector, paths, batch)
    print(json.dumps({**result, "load": round(os.getloadavg()[0], 1)}))


if __name__ == "__main__":
    main()
