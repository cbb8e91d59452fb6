"""The verb `evaluate`: all measures of all methods, from their predictions, into result.json."""

import os
import shlex
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import product
from typing import Any

import numpy as np
from pydantic import Field
from threadpoolctl import threadpool_limits

from uldscale import __version__, files
from uldscale.config import Settings
from uldscale.data.index import ImageIndex
from uldscale.errors import IncompleteError
from uldscale.evaluation import nme, paired
from uldscale.runs import RunFolder
from uldscale.runtime import telemetry
from uldscale.runtime.progress import Progress
from uldscale.stages import zero_shot
from uldscale.stages.checkup import check
from uldscale.stages.judge import Errors, Judge
from uldscale.stages.landmarks import landmarks_of
from uldscale.stages.locate import PREDICTIONS
from uldscale.stages.truth import Truth
from uldscale.training.schedule import Stage

STANDARDS = (Stage.D_ULD.value, Stage.CONTROL.value)
"""With which methods that come later are compared, image by image."""

METHODS = (
    zero_shot.METHOD,
    Stage.MALLIS_D.value,
    Stage.D_ULD.value,
    Stage.POSE_PROXY.value,
    Stage.FULL_VAE.value,
    Stage.CONTROL.value,
    Stage.D_ULD_PP.value,
)
"""The methods that a run can have of its own, in the order of the paper's tables; those of peers come after them."""


class EvaluateConfig(Settings):
    """Settings of the measures."""

    seed: int = Field(default=0, ge=0)
    """Draws the images on which regressors are fitted."""
    shown: tuple[str, ...] | None = None
    """Names of the protocols in tables and curves; errors by yaw are of the first. None: the first two that the annotation allows."""
    all_rows: bool = False
    """Whether landmarks are also sought on training images that nobody has annotated: no measure or picture needs them."""


def methods_of(run: RunFolder) -> list[str]:
    """Methods that have predictions. Raises IncompleteError when there is none."""
    there = [name for name in files.names(run.methods) if files.exists(files.join(run.method(name), PREDICTIONS))]
    if not there:
        raise IncompleteError(f"{run.root} has no method to evaluate; `uldscale train` the same job first")
    return [name for name in METHODS if name in there] + sorted(set(there) - set(METHODS))


def evaluate(config: EvaluateConfig, index: ImageIndex, run: RunFolder, dataset: str) -> dict[str, Any]:
    """All measures of all methods that have predictions; writes and returns result.json.

    A protocol whose normaliser no image has is left out, and named in the result. Raises ConfigError for an unknown protocol.
    """
    truth = Truth.of(index)
    protocols = [] if truth is None else truth.protocols(config.shown)
    usable = [protocol for protocol in protocols if truth and nme.measurable(truth.points[truth.test], protocol)]
    judge = Judge(config.seed, index, run, truth, usable)
    shown = usable[:2] if config.shown is None else [protocol for protocol in usable if protocol.name in config.shown]
    methods = methods_of(run)
    measured: dict[str, dict[str, Any]] = {}
    errors: dict[str, Errors] = {}
    # Regressions are small: on busy cores threads of BLAS that wait for each other take three times as long as one.
    with (
        run.timed("evaluate"),
        Progress("evaluate", len(methods), run.progress) as progress,
        threadpool_limits(1, "blas"),
    ):
        for method in methods:
            progress.advance(0, method)
            measured[method], errors[method] = judge(method)
            before = [standard for standard in STANDARDS if errors.get(standard) and standard != method]
            if errors[method] and before:
                measured[method]["against"] = {
                    standard: _against(errors[method], errors[standard], config.seed) for standard in before
                }
            _record(method, measured[method])
            progress.advance()
        mean_shape = judge.mean_shape() if usable else {}
    result: dict[str, Any] = {
        "methods": measured,
        "baselines": {"mean_shape": mean_shape} if usable else {},
        "shown": [protocol.name for protocol in shown],
        "without_normaliser": [protocol.name for protocol in protocols if protocol not in usable],
        "dataset": {
            "name": dataset,
            "train_images": len(index.rows("train")),
            "test_images": len(index.rows("test")),
            "quarantined": len(index.quarantined()),
            "conventions": index.conventions,
            "roi": index.regions(),
            "annotated_test_images": 0 if truth is None else len(truth.test),
            "estimated_yaws": int(np.isfinite(judge.yaw()).sum() - np.isfinite(index.yaw(index.judged())).sum()),
        },
        "seconds": run.seconds(),
    }
    own = [method for method in methods if method in METHODS]
    found = check(index, run, own[-1], landmarks_of(index, run, own[-1]).points) if own else []
    result["warnings"] = [asdict(symptom) for symptom in found]
    result["made"] = made()
    files.write_json(run.result, result)
    return result


def made() -> dict[str, str]:
    """When, by which version and by which command a result was made."""
    command = shlex.join([os.path.basename(sys.argv[0]), *sys.argv[1:]])
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return {"date": date, "version": __version__, "command": command}


def _against(ours: Errors, theirs: Errors, seed: int) -> dict[str, Any]:
    """Differences in per cent by protocol and direction, on the images on which both have errors."""
    found: dict[str, Any] = {name: {} for name in ours}
    for name, direction in product(ours, ("forward", "backward")):
        mine, other = (getattr(errors[name], f"per_image_{direction}") for errors in (ours, theirs))
        if apart := paired.difference(mine, other, seed):
            found[name][direction] = asdict(apart)
    return found


def _record(method: str, measures: dict[str, Any]) -> None:
    telemetry.record("uldscale_detection_ratio", measures["detection_rate"], method=method)
    # None where no landmark is found twice.
    if measures.get("consistency_px") is not None:
        telemetry.record("uldscale_consistency_pixels", measures["consistency_px"], method=method)
    for protocol, errors in measures.get("nme", {}).items():
        for direction in ("forward", "backward"):
            telemetry.record(
                "uldscale_nme_percent", errors[direction], method=method, protocol=protocol, direction=direction
            )
