"""The verb `evaluate`: all measures of all methods, from their predictions, into result.json."""

import os
import shlex
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from threadpoolctl import threadpool_limits

from uldscale import __version__, files
from uldscale.clustering.two_stage import Clustering
from uldscale.config import Settings
from uldscale.data.index import ImageIndex
from uldscale.errors import IncompleteError
from uldscale.evaluation import accuracy, clusters, consistency, nme, paired, visible
from uldscale.probes import Probe
from uldscale.runs import RunFolder
from uldscale.runtime import telemetry
from uldscale.runtime.progress import Progress
from uldscale.stages import extremes, zero_shot
from uldscale.stages.checkup import check
from uldscale.stages.landmarks import landmarks_of
from uldscale.stages.locate import PREDICTIONS, PROBE
from uldscale.stages.truth import SIDE, Truth
from uldscale.training.schedule import CLUSTERING, Stage

Errors = dict[str, nme.NmeResult]
"""Of a method, by protocol."""

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


_WITH_POSES = {stage.value for stage, kind in CLUSTERING.items() if kind is Clustering.TWO_STAGE}


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
    judge = _Judge(config.seed, index, run, truth, usable)
    shown = usable[:2] if config.shown is None else [protocol for protocol in usable if protocol.name in config.shown]
    methods = methods_of(run)
    measured: dict[str, dict[str, Any]] = {}
    errors: dict[str, Errors] = {}
    # Regressions are small: on busy cores threads of BLAS that wait for each other take three times as long as one.
    with Progress("evaluate", len(methods), run.progress) as progress, threadpool_limits(1, "blas"):
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
    result: dict[str, Any] = {
        "methods": measured,
        "baselines": {"mean_shape": judge.mean_shape()} if usable else {},
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
    if "consistency_px" in measures:
        telemetry.record("uldscale_consistency_pixels", measures["consistency_px"], method=method)
    for protocol, errors in measures.get("nme", {}).items():
        for direction in ("forward", "backward"):
            telemetry.record(
                "uldscale_nme_percent", errors[direction], method=method, protocol=protocol, direction=direction
            )


@dataclass(frozen=True)
class _Judge:
    seed: int
    index: ImageIndex
    run: RunFolder
    truth: Truth | None
    protocols: list[nme.Protocol]

    def __call__(self, method: str) -> tuple[dict[str, Any], Errors]:
        """Every measure that the method's files and the annotations allow, and the errors behind it."""
        points, poses, seen = landmarks_of(self.index, self.run, method)
        errors = self._errors(points * self.truth.scale) if self.truth and self.protocols else {}
        measures: dict[str, Any] = {
            "detection_rate": float(nme.detection_rate(points[self.index.judged()]).mean()),
            **self._probed(method, points, poses),
            **(self._measures(points * self.truth.scale, self.truth, errors) if self.truth and errors else {}),
            **(self._poses(poses) if method in _WITH_POSES else {}),
            **(self._seen(seen, points * self.truth.scale, self.truth) if self.truth and seen is not None else {}),
        }
        churn = self._churn(method)
        return measures | ({"churn": churn} if churn else {}), errors

    def yaw(self) -> NDArray[np.floating]:
        """Degrees, of the images that methods are judged on."""
        rows = self.index.judged()
        return self.index.yaw(rows) if self.truth is None else self.truth.yaw[rows]

    def mean_shape(self) -> dict[str, float]:
        """Forward NME of the mean shape by protocol."""
        truth = self.truth
        assert truth is not None
        train, test = truth.points[truth.train], truth.points[truth.test]
        return {protocol.name: nme.mean_shape(train, test, protocol, self.seed) for protocol in self.protocols}

    def _errors(self, points: NDArray[np.float32]) -> Errors:
        assert self.truth is not None
        split = self.truth.split(points)
        return {protocol.name: nme.evaluate(*split, protocol, self.seed) for protocol in self.protocols}

    def _measures(self, points: NDArray[np.float32], truth: Truth, errors: Errors) -> dict[str, Any]:
        """NME by protocol, that of the first by yaw, and the accuracy of raw landmarks."""
        headline = errors[self.protocols[0].name]
        bins = nme.by_yaw(headline, truth.yaw[truth.test])
        # Not that of whatever protocol is shown first: a fifth of a box is generous.
        hits = accuracy.hungarian_accuracy(*truth.split(points), nme.protocols_for(truth.points.shape[1])[0].normaliser)
        return {
            "nme": {name: result.to_json() for name, result in errors.items()},
            "images": extremes.by_error(self.index, truth.test, headline),
            "nme_by_yaw": {
                "protocol": headline.protocol,
                "normaliser": headline.normaliser,
                "bins": [asdict(part) for part in bins if part.count],
            },
            "accuracy": hits.to_json(),
        }

    def _poses(self, poses: NDArray[np.int64]) -> dict[str, Any]:
        """Agreement of poses with yaw, where there is yaw."""
        yaw = self.yaw()
        if not np.isfinite(yaw).any():
            return {}
        agreement = clusters.pose_agreement(poses[self.index.judged()], yaw)
        measures = {"pose_purity": agreement.purity, "pose_nmi": agreement.normalised_mutual_information}
        return {**measures, "poses": agreement.to_json()}

    def _seen(self, known: NDArray[np.float32], points: NDArray[np.float32], truth: Truth) -> dict[str, Any]:
        """How well a method knows which of its landmarks are hidden, where the annotation says so."""
        seen = self.index.visible(truth.test)
        if seen.all():
            return {}
        partners = visible.partners(points[truth.train], truth.points[truth.train], self.index.visible(truth.train))
        found = np.isfinite(points[truth.test]).all(-1)
        area = visible.area_under_curve(np.where(found, known[truth.test], np.nan), seen[:, partners])
        return {} if area is None else {"visibility_auc": area}

    def _probed(self, method: str, points: NDArray[np.float32], poses: NDArray[np.int64]) -> dict[str, Any]:
        """Consistency under the store's own random similarity, and how well descriptors of landmarks keep apart."""
        path = files.join(self.run.method(method), PROBE)
        if not files.exists(path):
            return {}
        probe = Probe.read(path)
        # In a mirrored view left and right change places.
        turned = np.linalg.det(probe.matrices) > 0
        moves = consistency.consistency(points[probe.rows][turned], probe.moved[turned], probe.matrices[turned], SIDE)
        found = np.isfinite(probe.descriptors).all(-1)
        descriptors = probe.descriptors[found].astype(np.float32)
        # A landmark is the same in every pose, so its descriptors of all poses are one cluster.
        landmarks = np.broadcast_to(np.arange(points.shape[1]), found.shape)
        apart = clusters.separation(descriptors, landmarks[found], self.seed)
        # Those of two stages are the landmarks of each pose, Q x K of them (paper, Table 3); with one stage poses are all 0.
        of_poses = (landmarks + points.shape[1] * poses[probe.rows][:, None])[found]
        joint = clusters.separation(descriptors, of_poses, self.seed)
        return {
            "consistency_px": moves.error_px,
            "silhouette": apart.silhouette,
            "calinski_harabasz": apart.calinski_harabasz,
            "clusters": len(np.unique(of_poses)),
            "clusters_silhouette": joint.silhouette,
            "clusters_calinski_harabasz": joint.calinski_harabasz,
            "consistency": moves.to_json(),
            "images": extremes.by_consistency(self.index, points, probe, SIDE),
        }

    def _churn(self, method: str) -> list[float]:
        """Share of labels that changed, from round to round of the method's training."""
        return [event["churn"] for event in self.run.rounds(method) if "churn" in event]
