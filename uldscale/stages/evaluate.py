"""The verb `evaluate`: landmarks of every method on every image, then all measures, into result.json."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from uldscale import files
from uldscale.config import Settings
from uldscale.data.index import ImageIndex
from uldscale.detector import LandmarkDetector
from uldscale.evaluation import clusters, nme
from uldscale.predictions import Predictions
from uldscale.runs import RunFolder
from uldscale.runtime.progress import Progress
from uldscale.stages import zero_shot
from uldscale.store.features import FeatureStore
from uldscale.store.reader import FeatureReader
from uldscale.training.schedule import Stage

METHODS = (zero_shot.METHOD, Stage.D_ULD.value, Stage.POSE_PROXY.value, Stage.D_ULD_PP.value)
CHUNK = 64


class EvaluateConfig(Settings):
    """Settings of the measures."""

    seed: int = 0
    """Draws the images on which regressors are fitted."""


def locate(index: ImageIndex, store: FeatureStore, run: RunFolder) -> None:
    """Landmarks of every trained method on every image, from stored features; does what is missing."""
    for method in METHODS:
        path = files.join(run.method(method), "predictions.parquet")
        if not files.exists(path):
            _locate(LandmarkDetector.load(run.method(method)), index, store, method).write(path)


def _locate(detector: LandmarkDetector, index: ImageIndex, store: FeatureStore, title: str) -> Predictions:
    rows, reader = index.rows(), FeatureReader(store)
    chunks = [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]
    points, poses = [], []
    with Progress(f"locate {title}", len(rows)) as progress:
        for chunk, maps in zip(chunks, reader.prefetch((chunk, np.zeros_like(chunk)) for chunk in chunks), strict=True):
            found = detector.locate({name: torch.from_numpy(values) for name, values in maps.items()})
            points.append(found.points)
            poses.append(found.poses)
            progress.advance(len(chunk))
    return Predictions([index.row(int(row)).id for row in rows], np.concatenate(points), np.concatenate(poses))


@dataclass(frozen=True)
class Truth:
    """Annotated landmarks in pixels of the crop, with the rows that have them."""

    train: NDArray[np.int64]
    test: NDArray[np.int64]
    points: NDArray[np.float32]
    """(N, P, 2), NaN where there is none."""
    yaw: NDArray[np.float32]

    @classmethod
    def of(cls, index: ImageIndex, size: int) -> "Truth | None":
        """The truth of an index, or None when it has no test images with landmarks."""
        points = index.landmarks(np.arange(len(index))) * size
        known: NDArray[np.bool_] = np.asarray(np.isfinite(points).all(-1).any(-1), bool)
        train, test = (rows[known[rows]] for rows in (index.rows("train"), index.rows("test")))
        return cls(train, test, points, index.yaw(np.arange(len(index)))) if len(train) and len(test) else None


def evaluate(
    config: EvaluateConfig, index: ImageIndex, store: FeatureStore, run: RunFolder, dataset: str
) -> dict[str, Any]:
    """All measures of all methods from their predictions (`locate`); writes and returns result.json."""
    size = store.spec.image_size
    truth = Truth.of(index, size)
    methods = {method: _measure(config, index, run, method, truth, size) for method in METHODS}
    baselines = {} if truth is None else {"mean_shape": _mean_shape(config, truth)}
    result = {
        "methods": methods,
        "baselines": baselines,
        "dataset": {
            "name": dataset,
            "train_images": len(index.rows("train")),
            "test_images": len(index.rows("test")),
            "quarantined": len(index.quarantined()),
            "annotated_test_images": 0 if truth is None else len(truth.test),
        },
        "seconds": run.seconds(),
    }
    files.write_json(run.result, result)
    return result


def landmarks_of(index: ImageIndex, run: RunFolder, method: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Landmarks (N, K, 2) of a method in unit coordinates by row, NaN where missing, and poses (N,), 0 where unknown."""
    predictions = Predictions.read(files.join(run.method(method), "predictions.parquet"))
    points = np.full((len(index), *predictions.points.shape[1:]), np.nan, np.float32)
    poses = np.zeros(len(index), np.int64)
    points[index.rows()], poses[index.rows()] = predictions.points, predictions.poses
    return points, poses


def _measure(
    config: EvaluateConfig, index: ImageIndex, run: RunFolder, method: str, truth: Truth | None, size: int
) -> dict[str, Any]:
    points, poses = landmarks_of(index, run, method)
    points = points * size
    judged = index.rows("test") if len(index.rows("test")) else index.rows()
    measures: dict[str, Any] = {"detection_rate": float(nme.detection_rate(points[judged]).mean())}
    if truth is None:
        return measures
    protocols = nme.protocols_for(truth.points.shape[1])
    measures["nme"] = {protocol.name: _nme(config, points, truth, protocol) for protocol in protocols}
    if np.isfinite(truth.yaw[truth.test]).any() and poses.any():
        measures["pose_purity"] = clusters.pose_agreement(poses[truth.test], truth.yaw[truth.test]).purity
    return measures


def _nme(config: EvaluateConfig, points: NDArray[np.float32], truth: Truth, protocol: nme.Protocol) -> dict[str, Any]:
    return nme.evaluate(
        points[truth.train],
        truth.points[truth.train],
        points[truth.test],
        truth.points[truth.test],
        protocol,
        config.seed,
    ).to_json()


def _mean_shape(config: EvaluateConfig, truth: Truth) -> dict[str, Any]:
    return {
        protocol.name: nme.mean_shape(truth.points[truth.train], truth.points[truth.test], protocol, config.seed)
        for protocol in nme.protocols_for(truth.points.shape[1])
    }
