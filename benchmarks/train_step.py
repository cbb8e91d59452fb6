"""What does training on a store through Ray Train and DeepSpeed cost, against a bare torch loop on batches in memory?

    python benchmarks/train_step.py runs/demo [--steps 200]

The first stage of a finished run is trained again from its store, by the worker of `uldscale train` with the settings of the run and each
engine in turn; before and after them the same network and losses take as many steps by torch's Adam on batches that were read
beforehand, with as many threads. Seconds of the first steps are left out of all. Prints one JSON line: steps a second, their ratio, and
the share of time in which training waited for data.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from itertools import islice
from typing import Any

import torch
from torch import nn

from uldscale.config import read_yaml
from uldscale.data.index import ImageIndex
from uldscale.job import Job
from uldscale.models.network import Network
from uldscale.runs import RunFolder
from uldscale.runtime.alone import threads
from uldscale.runtime.cluster import device
from uldscale.runtime.engine import BETAS
from uldscale.stages.train import train
from uldscale.store.features import FeatureStore
from uldscale.training.batches import Batches
from uldscale.training.objectives import Objective
from uldscale.training.schedule import Stage

LOGGED = 10
"""Steps of a measurement."""
BATCHES = 16
"""Kept in memory."""
ENGINES: dict[str, dict[str, Any]] = {
    "deepspeed, ZeRO 0": {"kind": "deepspeed", "zero": 0},
    "deepspeed, ZeRO 1": {"kind": "deepspeed", "zero": 1},
    "ddp": {"kind": "ddp"},
}


def bare(job: Job, store: FeatureStore, index: ImageIndex, steps: int) -> list[float]:
    """Seconds a step."""
    torch.manual_seed(job.train.seed)
    scales = {name: torch.from_numpy(each) for name, each in store.scales().items()}
    where = device(job.runtime.train.gpus)
    network = Network(scales, len(store.spec.timesteps), job.train.network).to(where)
    network.trainable(job.train.trained(Stage.BOOTSTRAP))
    objective, weights = Objective(network, Stage.BOOTSTRAP, job.train.losses), list(network.parameters())
    optimizer = torch.optim.Adam([weight for weight in weights if weight.requires_grad], 1e-4, BETAS)
    source = Batches(
        store, index.rows("train"), batch=job.train.batch, latent=job.train.network.vae.latent, seed=job.train.seed, rank=0, world=1
    )  # fmt: skip
    batches = [batch.to(where) for batch in islice(source(Stage.BOOTSTRAP, range(BATCHES), None), BATCHES)]
    seconds = []
    for step in range(steps):
        if step % LOGGED == 0:
            start = time.perf_counter()
        optimizer.zero_grad()
        with torch.autocast(where.type, torch.bfloat16, enabled=job.train.engine.bf16):
            loss = objective(batches[step % BATCHES])["loss"]
        loss.backward()
        nn.utils.clip_grad_norm_(weights, job.train.engine.gradient_clip)
        optimizer.step()
        if step % LOGGED == LOGGED - 1:
            if where.type == "cuda":
                torch.cuda.synchronize()
            seconds.append((time.perf_counter() - start) / LOGGED)
    return seconds[1:]


def ours(job: Job, store: FeatureStore, index: ImageIndex, steps: int, engine: dict[str, Any]) -> tuple[float, float]:
    """Seconds a step, and the share of time that went into waiting for data."""
    with tempfile.TemporaryDirectory() as folder:
        events = trained(job, store, index, steps, engine, folder)
    parts = [event["seconds"] for event in events if event["event"] == "parts"][1:]
    waited = sum(part["data"] for part in parts) / sum(sum(part.values()) for part in parts)
    return statistics.median([event["step_seconds"] for event in events if event["event"] == "step"][1:]), waited


def trained(
    job: Job, store: FeatureStore, index: ImageIndex, steps: int, engine: dict[str, Any], folder: str
) -> list[dict[str, Any]]:
    """What the log says of the first stage."""
    later = {"steps": 1, "learning_rate": 1e-5}
    stages = {"bootstrap": {**later, "steps": steps}, "d_uld_pose_proxy": later}
    stages |= {name: {**later, "relabel_every": 1} for name in ("d_uld", "d_uld_pp")}
    once = {
        "log_every": LOGGED,
        "checkpoint_every": steps,
        "full_vae": None,
        "mallis_d": None,
        "control": None,
        "engine": engine,
    }
    config, run = job.train.updated(**stages, **once), RunFolder(folder)
    train(config, job.extract.features, store.root, index, job.data.roi.border, run, job.runtime)
    return [event for event in run.read_metrics() if event.get("stage") == Stage.BOOTSTRAP]


def compare(job: Job, run: RunFolder, steps: int) -> dict[str, Any]:
    """The measurement."""
    store = FeatureStore.open(job.extract.store.root or run.store)
    index = ImageIndex.read(run.index)
    with threads(job.runtime.train.threads):
        before = bare(job, store, index, steps // 2)
        found = {name: ours(job, store, index, steps, engine) for name, engine in ENGINES.items()}
        after = bare(job, store, index, steps // 2)
    alone = statistics.median([*before, *after])
    return {
        "bare_steps_a_second": round(1 / alone, 3),
        "bare_before_and_after": [round(1 / statistics.median(part), 3) for part in (before, after)],
        "steps_a_second": {name: round(1 / seconds, 3) for name, (seconds, _) in found.items()},
        "ratio": {name: round(alone / seconds, 3) for name, (seconds, _) in found.items()},
        "waited_for_data": {name: round(waited, 4) for name, (_, waited) in found.items()},
        "batch": job.train.batch,
        "workers": job.runtime.train.count,
        "threads": job.runtime.train.threads,
        "cpus": os.cpu_count(),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("run")
    options.add_argument("--steps", type=int, default=200)
    given = options.parse_args()
    run = RunFolder(given.run)
    print(json.dumps(compare(Job.model_validate(read_yaml(run.config)), run, given.steps)))


if __name__ == "__main__":
    main()
