"""All that wants a GPU, in one command and at most eight minutes: does it work, and how fast is it?

    python benchmarks/gpu.py [--cpu]

The tests that run on a GPU; extraction against diffusers (gpu_extract.py); a small run with the architecture of Stable Diffusion
1.5 and random weights, all of it on the GPU; its training step by every engine against bare torch (train_step.py); its landmarks on
features in memory; k-means as the product does it against plain torch. Every part is a process of its own with a limit; what failed
says so, and the exit code is 1 then. --cpu does less of it with a small model on the CPU, without extraction, to see that the script works.
Prints one JSON line.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from watched import COMMAND

from uldscale.clustering import kmeans, on_gpu
from uldscale.config import read_yaml
from uldscale.detector import LandmarkDetector
from uldscale.job import Job
from uldscale.runs import RunFolder
from uldscale.store.features import FeatureStore
from uldscale.store.reader import FeatureReader

HERE = Path(__file__).parent
TESTS = ("tests/clustering/test_kmeans.py", "tests/diffusion/test_extractor.py", "tests/models/test_views.py")
POINTS, SIZE, CLUSTERS, STARTS = 1_000_000, 128, 10, 4
ROUNDS = 5


def job(folder: Path, gpus: int) -> Path:
    """A run that is over in a minute on a GPU."""
    model = {"model": "random-sd15", "dtype": "bfloat16"} if gpus else {"model": "tiny-ldm"}
    stage = {"steps": 20, "learning_rate": 1e-4}
    labelled = {**stage, "relabel_every": 10}
    content = {
        "name": "small",
        "output": str(folder),
        "data": {"kind": "faces3d", "train": 64, "test": 16, "size": 256 if gpus else 64},
        "extract": {
            "features": {"backbone": model, "timesteps": [50], "batch": 32 if gpus else 8, "codec": {"channels": 32}},
            "views": {"count": 2}, "store": {"rows_per_shard": 16},
        },
        "train": {
            "batch": 12, "warmup_steps": 5, "log_every": 10, "checkpoint_every": 20, "engine": {"bf16": bool(gpus)},
            "bootstrap": stage, "d_uld": labelled, "d_uld_pose_proxy": stage, "d_uld_pp": labelled,
            **({} if gpus else {"network": {"grid": 16, "aggregator": {"hidden": 8, "width": 16}}}),
        },
        "runtime": {"extract": {"gpus": gpus}, "train": {"gpus": gpus}, "locate": {"gpus": gpus}},
    }  # fmt: skip
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def part(command: list[str], limit: float) -> dict[str, Any]:
    """What a process prints as JSON in its last line, with the seconds that it took; or why there is nothing."""
    start = time.monotonic()
    try:
        done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return {"error": f"took longer than {limit:g} s"}
    seconds, said = round(time.monotonic() - start, 1), done.stdout.strip().splitlines()
    if done.returncode:
        return {"seconds": seconds, "error": [*said[-5:], *done.stderr.strip().splitlines()[-5:]]}
    found = json.loads(said[-1]) if said and said[-1].startswith("{") else {"said": said[-1:]}
    return {"seconds": seconds, **found}


def locate(run: RunFolder, device: str) -> dict[str, Any]:
    """Images a second whose landmarks are found on features in memory."""
    detector = LandmarkDetector.from_pretrained(run.method("d_uld_pp"), device=device)
    settings = Job.model_validate(read_yaml(run.config))
    reader = FeatureReader(FeatureStore.open(settings.extract.store.root or run.store))
    rows = np.arange(64)
    maps = {name: torch.from_numpy(values) for name, values in reader.read(rows, np.zeros_like(rows)).items()}
    seconds = [timed(lambda: detector.locate(maps)) for _ in range(ROUNDS + 1)][1:]
    return {"images_per_second": round(len(rows) / float(np.median(seconds)), 1), "device": device}


def cluster(device: str) -> dict[str, Any]:
    """Seconds of k-means of a million descriptors, on the CPU of a twentieth of them."""
    random, count = np.random.default_rng(0), POINTS if device == "cuda" else POINTS // 20
    centres = random.normal(size=(CLUSTERS, SIZE)).astype(np.float32)
    points = centres[random.integers(CLUSTERS, size=count)] + random.standard_normal((count, SIZE), np.float32)
    kmeans.fit(points[:10_000], CLUSTERS, seed=0)
    lloyd(points[:10_000], device)
    found, spent = {}, {}
    for name, fit in {
        "uldscale": lambda: kmeans.fit(points, CLUSTERS, seed=0, n_init=STARTS),
        "torch": lambda: lloyd(points, device),
    }.items():
        start = time.perf_counter()
        found[name] = fit()
        spent[name] = time.perf_counter() - start
    inertia = {
        name: float(np.square(kmeans.assign(points, centroids)[1], dtype=float).sum())
        for name, centroids in found.items()
    }
    return {
        "seconds_of_k_means": {name: round(value, 2) for name, value in spent.items()},
        "times_as_fast": round(spent["torch"] / spent["uldscale"], 2),
        "inertia_over_torch": round(inertia["uldscale"] / inertia["torch"] - 1, 5),
        "cuml": on_gpu.available(),
    }


def lloyd(points: NDArray[np.float32], device: str) -> NDArray[np.float32]:
    """K-means as it is written down in torch: the best of some random starts, until nothing moves, at most 300 iterations."""
    there, best, least = torch.from_numpy(points).to(device), torch.empty(0), float("inf")
    for start in range(STARTS):
        torch.manual_seed(start)
        centroids = there[torch.randperm(len(there), device=device)[:CLUSTERS]]
        for _ in range(300):
            distances, labels = torch.cdist(there, centroids).min(1)
            sums = torch.zeros_like(centroids).index_add_(0, labels, there)
            counts = torch.bincount(labels, minlength=CLUSTERS).clamp_min(1)
            moved, centroids = centroids, sums / counts[:, None]
            if (centroids - moved).norm() <= 1e-4 * moved.norm():
                break
        if (inertia := float(distances.square().sum())) < least:
            best, least = centroids, inertia
    return best.cpu().numpy()


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def whole(folder: Path, gpus: int) -> dict[str, Any]:
    """Every part in turn."""
    python, own = sys.executable, [str(HERE / "gpu.py"), *([] if gpus else ["--cpu"])]
    steps, patience = ("60", 1) if gpus else ("40", 3)
    run, path = str(folder / "small"), job(folder, gpus)
    verb = [*COMMAND, "run", str(path)]
    parts = {
        "tests": ([python, "-m", "pytest", "-q", *TESTS], 90),
        "extraction": ([python, str(HERE / "gpu_extract.py"), "--images", "64", "--rounds", "3"], 130),
        "run": (verb, 120),
        "training_step": ([python, str(HERE / "train_step.py"), run, "--steps", steps], 90),
        "locate": ([python, *own, "--part", "locate", "--run", run], 25),
        "k_means": ([python, *own, "--part", "k_means"], 25),
    }
    if not gpus:
        del parts["extraction"]
    found = {name: part(command, patience * limit) for name, (command, limit) in parts.items()}
    found["run"]["stages"] = RunFolder(run).seconds()
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--cpu", action="store_true")
    options.add_argument("--part", choices=["locate", "k_means"], help=argparse.SUPPRESS)
    options.add_argument("--run", help=argparse.SUPPRESS)
    given = options.parse_args()
    if not given.cpu and not torch.cuda.is_available():
        options.error("this machine has no GPU that torch can use; --cpu tries the script without one")
    device = "cpu" if given.cpu else "cuda"
    if given.part:
        print(json.dumps(locate(RunFolder(given.run), device) if given.part == "locate" else cluster(device)))
        return
    with tempfile.TemporaryDirectory() as folder:
        found = whole(Path(folder), 0 if given.cpu else 1)
    name = "cpu" if given.cpu else torch.cuda.get_device_name()
    print(json.dumps({**found, "device": name, "torch": torch.__version__}))
    if failed := [name for name, result in found.items() if "error" in result]:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
