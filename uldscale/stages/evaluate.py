"""The verb `evaluate`: all measures of all methods, from their predictions, into result.json."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from uldscale import files
from uldscale.clustering.two_stage import Clustering
from uldscale.config import Settings
from uldscale.data.index import ImageIndex
from uldscale.errors import ConfigError, IncompleteError
from uldscale.evaluation import accuracy, clusters, consistency, nme
from uldscale.evaluation.yaw import with_estimates
from uldscale.predictions import Predictions
from uldscale.probes import Probe
from uldscale.runs import RunFolder
from uldscale.runtime import telemetry
from uldscale.runtime.progress import Progress
from uldscale.stages import zero_shot
from uldscale.stages.locate import PREDICTIONS, PROBE
from uldscale.training.schedule import CLUSTERING, Stage

Points = NDArray[np.float32]

METHODS = (
    zero_shot.METHOD,
    Stage.MALLIS_D.value,
    Stage.D_ULD.value,
    Stage.POSE_PROXY.value,
    Stage.FULL_VAE.value,
    Stage.D_ULD_PP.value,
)
"""The methods that a run can have of its own, in the order of the paper's tables; those of peers come after them."""


_WITH_POSES = {stage.value for stage, kind in CLUSTERING.items() if kind is Clustering.TWO_STAGE}

CONSISTENCY_SIDE = 128
"""Side in pixels of the crop in which consistency is told, whatever the size of the run's crops (paper, Table 4)."""


class EvaluateConfig(Settings):
    """Settings of the measures."""

    seed: int = Field(default=0, ge=0)
    """Draws the images on which regressors are fitted."""
    shown: tuple[str, ...] | None = None
    """Names of the protocols in tables and curves; errors by yaw are of the first. None: the first two that the annotation allows."""
    all_rows: bool = False
    """Whether landmarks are also sought on training images that nobody has annotated: no measure or picture needs them."""


@dataclass(frozen=True)
class Truth:
    """Annotated landmarks, with the rows that have them."""

    train: NDArray[np.int64]
    test: NDArray[np.int64]
    points: NDArray[np.float32]
    """(N, P, 2) pixels, NaN where there is none."""
    scale: NDArray[np.float32]
    """(N, 1, 2) pixels of a unit coordinate, in the proportions of the image: the longer side of a crop counts as its `size`."""
    yaw: NDArray[np.float64]
    """(N,) degrees, estimated from the points where only other images have it; NaN where unknown."""

    @classmethod
    def of(cls, index: ImageIndex, size: int) -> "Truth | None":
        """The truth of an index, or None when it has no test images with landmarks."""
        rows = np.arange(len(index))
        scale = size * index.proportions(rows)[:, None]
        points = index.landmarks(rows) * scale
        known: NDArray[np.bool_] = np.asarray(np.isfinite(points).all(-1).any(-1), bool)
        train, test = (rows[known[rows]] for rows in (index.rows("train"), index.rows("test")))
        if not (len(train) and len(test)):
            return None
        return cls(train, test, points, scale, yaw=with_estimates(points, index.yaw(rows), train))

    def protocols(self, shown: tuple[str, ...] | None) -> list[nme.Protocol]:
        """How errors are measured; see `chosen_protocols`."""
        return chosen_protocols(self.points.shape[1], shown)

    def split(self, points: NDArray[np.float32]) -> tuple[Points, Points, Points, Points]:
        """Predicted and annotated points of the training images, then those of the test images."""
        return points[self.train], self.points[self.train], points[self.test], self.points[self.test]


def chosen_protocols(num_points: int, shown: tuple[str, ...] | None) -> list[nme.Protocol]:
    """The protocols for so many annotated points, those that are shown first. Raises ConfigError when one of them is not among them."""
    known = {protocol.name: protocol for protocol in nme.protocols_for(num_points)}
    if unknown := set(shown or ()) - known.keys():
        raise ConfigError(
            f"evaluate.shown: {num_points} annotated points have no protocol {min(unknown)!r}; there are {', '.join(known)}"
        )
    return [known[name] for name in dict.fromkeys([*(shown or ()), *known])]


def methods_of(run: RunFolder) -> list[str]:
    """Methods that have predictions. Raises IncompleteError when there is none."""
    there = [name for name in files.names(run.methods) if files.exists(files.join(run.method(name), PREDICTIONS))]
    if not there:
        raise IncompleteError(f"{run.root} has no method to evaluate; `uldscale train` the same job first")
    return [name for name in METHODS if name in there] + sorted(set(there) - set(METHODS))


def evaluate(config: EvaluateConfig, index: ImageIndex, size: int, run: RunFolder, dataset: str) -> dict[str, Any]:
    """All measures of all methods that have predictions; writes and returns result.json. `size`: pixels of the crop.

    A protocol whose normaliser no image has is left out, and named in the result. Raises ConfigError for an unknown protocol.
    """
    truth = Truth.of(index, size)
    protocols = [] if truth is None else truth.protocols(config.shown)
    usable = [protocol for protocol in protocols if truth and nme.measurable(truth.points[truth.test], protocol)]
    judge = _Judge(config.seed, index, run, truth, usable)
    shown = usable[:2] if config.shown is None else [protocol for protocol in usable if protocol.name in config.shown]
    methods = methods_of(run)
    measured: dict[str, dict[str, Any]] = {}
    with Progress("evaluate", len(methods), run.progress) as progress:
        for method in methods:
            progress.advance(0, method)
            measured[method] = judge(method)
            _record(method, measured[method])
            progress.advance()
    result = {
        "methods": measured,
        "baselines": {"mean_shape": judge.mean_shape()} if usable else {},
        "shown": [protocol.name for protocol in shown],
        "without_normaliser": [protocol.name for protocol in protocols if protocol not in usable],
        "dataset": {
            "name": dataset,
            "train_images": len(index.rows("train")),
            "test_images": len(index.rows("test")),
            "quarantined": len(index.quarantined()),
            "annotated_test_images": 0 if truth is None else len(truth.test),
            "estimated_yaws": int(np.isfinite(judge.yaw()).sum() - np.isfinite(index.yaw(index.judged())).sum()),
        },
        "seconds": run.seconds(),
    }
    files.write_json(run.result, result)
    return result


def _record(method: str, measures: dict[str, Any]) -> None:
    telemetry.record("uldscale_detection_ratio", measures["detection_rate"], method=method)
    if "consistency_px" in measures:
        telemetry.record("uldscale_consistency_pixels", measures["consistency_px"], method=method)
    for protocol, errors in measures.get("nme", {}).items():
        for direction in ("forward", "backward"):
            telemetry.record(
                "uldscale_nme_percent", errors[direction], method=method, protocol=protocol, direction=direction
            )


def landmarks_of(index: ImageIndex, run: RunFolder, method: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Landmarks (N, K, 2) of a method in unit coordinates by row, NaN where missing or not looked for, and poses (N,), 0 there."""
    predictions = Predictions.read(files.join(run.method(method), PREDICTIONS))
    points = np.full((len(index), *predictions.points.shape[1:]), np.nan, np.float32)
    poses = np.zeros(len(index), np.int64)
    rows = index.rows_of(predictions.ids)
    points[rows], poses[rows] = predictions.points, predictions.poses
    return points, poses


@dataclass(frozen=True)
class _Judge:
    seed: int
    index: ImageIndex
    run: RunFolder
    truth: Truth | None
    protocols: list[nme.Protocol]

    def __call__(self, method: str) -> dict[str, Any]:
        """Every measure that the method's files and the annotations allow."""
        points, poses = landmarks_of(self.index, self.run, method)
        measures: dict[str, Any] = {
            "detection_rate": float(nme.detection_rate(points[self.index.judged()]).mean()),
            **(self._errors(points * self.truth.scale, self.truth) if self.truth and self.protocols else {}),
            **(self._poses(poses) if method in _WITH_POSES else {}),
            **self._probed(method, points),
        }
        churn = self._churn(method)
        return {**measures, "churn": churn} if churn else measures

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

    def _errors(self, points: NDArray[np.float32], truth: Truth) -> dict[str, Any]:
        """NME by protocol, that of the first by yaw, and the accuracy of raw landmarks."""
        split = truth.split(points)
        results = {protocol.name: nme.evaluate(*split, protocol, self.seed) for protocol in self.protocols}
        headline = self.protocols[0]
        bins = nme.by_yaw(results[headline.name], truth.yaw[truth.test])
        hits = accuracy.hungarian_accuracy(*split, headline.normaliser)
        return {
            "nme": {name: result.to_json() for name, result in results.items()},
            "nme_by_yaw": [asdict(part) for part in bins if part.count],
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

    def _probed(self, method: str, points: NDArray[np.float32]) -> dict[str, Any]:
        """Consistency under the store's own random similarity, and how well descriptors of landmarks keep apart."""
        path = files.join(self.run.method(method), PROBE)
        if not files.exists(path):
            return {}
        probe = Probe.read(path)
        # In a mirrored view left and right change places.
        turned = np.linalg.det(probe.matrices) > 0
        moves = consistency.consistency(
            points[probe.rows][turned], probe.moved[turned], probe.matrices[turned], CONSISTENCY_SIDE
        )
        found = np.isfinite(probe.descriptors).all(-1)
        # A landmark is the same in every pose, so its descriptors of all poses are one cluster.
        labels = np.broadcast_to(np.arange(points.shape[1]), found.shape)
        apart = clusters.separation(probe.descriptors[found].astype(np.float32), labels[found], self.seed)
        return {
            "consistency_px": moves.error_px,
            "silhouette": apart.silhouette,
            "calinski_harabasz": apart.calinski_harabasz,
            "consistency": moves.to_json(),
        }

    def _churn(self, method: str) -> list[float]:
        """Share of labels that changed, from round to round of the method's training."""
        return [event["churn"] for event in self.run.rounds(method) if "churn" in event]
