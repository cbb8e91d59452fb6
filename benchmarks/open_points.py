"""Which setting is better? A job trained with changed settings, judged without the test split.

    uldscale extract jobs/faces68.yaml
    python benchmarks/open_points.py jobs/faces68.yaml larger-spacing train.clusters.spacing=0.12

Trains on the job's feature store in this process, in runs/<job>/open_points/<label>, and measures every method on training images only:
regressors are fitted on 300 of 600 and measured on 600 others, drawn with a fixed seed. So a choice never sees the test split. A
bootstrap is worth sharing: put its checkpoint into the folder first. Prints one JSON line: settings, seconds, and by method forward and
backward NME (the first protocol) with the backward NME of each landmark.
"""

import argparse
import json
import time
from typing import Any

import numpy as np
import torch

from uldscale import files
from uldscale.data.index import ImageIndex
from uldscale.evaluation import nme
from uldscale.job import load_job
from uldscale.pipeline import Pipeline
from uldscale.runs import RunFolder
from uldscale.stages.locate import Blueprint, Locator
from uldscale.stages.relabel import Relabeller
from uldscale.stages.seeking import Chunk
from uldscale.store.features import FeatureStore
from uldscale.training.loop import Training

SIDES = 600
"""Training images on which regressors are fitted, and on which they are measured."""


def train(pipeline: Pipeline, store: FeatureStore, index: ImageIndex, run: RunFolder) -> None:
    config = pipeline.job.train.in_steps(len(index.rows("train")))
    Training(
        config=config,
        features=pipeline.job.extract.features,
        run=run,
        store=store,
        rows=index.rows("train"),
        yaw=index.yaw(np.arange(len(index))),
        fit=Relabeller(config.clusters, run, seed=config.seed),
        border=pipeline.job.data.roi.border,
        device=torch.device("cpu"),
    ).run_all()


def judge(run: RunFolder, method: str, store: FeatureStore, index: ImageIndex) -> dict[str, Any]:
    locator = Locator(Blueprint(store.root, None, gpus=0))
    locator.setup()
    size = store.spec.image_size
    drawn = np.random.default_rng(123).permutation(index.rows("train"))[: 2 * SIDES]
    sides = [np.sort(half) for half in np.split(drawn, [len(drawn) // 2])]
    chunks = [Chunk(run.method(method), "", tuple(rows.tolist()), 0, ("points",)) for rows in sides]
    found = [locator.seek(chunk)["points"] * size for chunk in chunks]
    known = [index.landmarks(rows) * size for rows in sides]
    result = nme.evaluate(found[0], known[0], found[1], known[1], nme.protocols_for(known[0].shape[1])[0], 0)
    each = np.diff(np.concatenate([[0], result.backward_ced]) * np.arange(len(result.backward_ced) + 1))
    return {
        "forward": round(result.forward, 2),
        "backward": round(result.backward, 2),
        "backward_by_landmark": [round(float(error), 1) for error in each],
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("job")
    options.add_argument("label")
    options.add_argument("overrides", nargs="*", help="train.….=value")
    given = options.parse_args()
    pipeline = Pipeline(load_job(given.job, []))
    store, index = pipeline.store(), pipeline.index()
    pipeline.job = load_job(given.job, ["train.engine.kind=ddp", *given.overrides])
    run = RunFolder(files.join(pipeline.run.root, "open_points", given.label))
    start = time.monotonic()
    train(pipeline, store, index, run)
    seconds = round(time.monotonic() - start)
    methods = {name: judge(run, name, store, index) for name in files.names(run.methods)}
    print(json.dumps({"label": given.label, "overrides": given.overrides, "seconds": seconds, "methods": methods}))


if __name__ == "__main__":
    main()
