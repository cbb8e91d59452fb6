"""What does making features small cost in landmark error?

    python benchmarks/codec_cost.py jobs/faces68.yaml extract.store.root=null

For each codec the features of one view of all images of a job are extracted into a store of its own, the ZeroShot baseline
finds its landmarks on them, and these are measured against the annotations. Three seeds of ZeroShot each, since k-means
moves an NME by more than most codecs do. Prints one JSON line: bytes an image, variance lost on held-out images, and NME
(68pt-300, mean and standard deviation over seeds) by codec.
"""

import argparse
import json
import shutil
import sys
import tempfile
from contextlib import redirect_stdout
from typing import Any

import numpy as np

from uldscale import files
from uldscale.evaluation import nme
from uldscale.job import Job, load_job
from uldscale.pipeline import Pipeline
from uldscale.runs import RunFolder
from uldscale.stages.evaluate import Truth, landmarks_of
from uldscale.stages.zero_shot import METHOD, zero_shot

CODECS: dict[str, dict[str, Any]] = {
    **{f"pca-{channels}-int8": {"kind": "pca-int8", "channels": channels} for channels in (8, 16, 32, 64)},
    "fp16": {"kind": "none"},
}
SEEDS = (0, 1, 2)


def measure(job: Job, name: str, folder: str) -> dict[str, Any]:
    settings = job.model_dump(mode="json")
    settings["extract"]["features"]["codec"] |= CODECS[name]
    settings["extract"]["views"]["count"] = 1
    settings["extract"]["store"]["root"] = None
    pipeline = Pipeline(Job.model_validate({**settings, "name": name, "output": folder}))
    store, index = pipeline.extract(), pipeline.index()
    lost = [event["error"] for event in pipeline.run.read_metrics() if event["event"] == "codec"]
    truth = Truth.of(index, store.spec.image_size)
    assert truth is not None, "the job has no annotated test images"
    protocol = nme.protocols_for(truth.points.shape[1])[0]
    errors = []
    for seed in SEEDS:
        run = RunFolder(files.join(pipeline.run.root, f"seed-{seed}"))
        zero_shot(job.zero_shot.updated(seed=seed), index, store, job.data.roi.border, run)
        points = landmarks_of(index, run, METHOD)[0] * store.spec.image_size
        parts = [values[rows] for rows in (truth.train, truth.test) for values in (points, truth.points)]
        errors.append(nme.evaluate(*parts, protocol, 0))
    shutil.rmtree(pipeline.run.root)
    return {
        "bytes_per_image": store.spec.row_bytes,
        "variance_lost": round(float(np.mean(lost)), 4) if lost else 0.0,
        "protocol": protocol.name,
        "forward": spread([error.forward for error in errors]),
        "backward": spread([error.backward for error in errors]),
    }


def spread(values: list[float]) -> list[float]:
    return [round(float(np.mean(values)), 2), round(float(np.std(values, ddof=1)), 2)]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("job")
    options.add_argument("overrides", nargs="*", help="key.sub=value")
    given = options.parse_args()
    job = load_job(given.job, given.overrides)
    result = {}
    for name in CODECS:
        with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
            result[name] = measure(job, name, folder)
        print(json.dumps({name: result[name]}), file=sys.stderr, flush=True)
    print(json.dumps({"job": job.name, "seeds": len(SEEDS), "codecs": result}))


if __name__ == "__main__":
    main()
