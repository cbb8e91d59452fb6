"""Normalised mean error, forward (landmarks to annotated points) and backward (annotated points to landmarks).

A linear regressor is fitted on training images and measured on test images. Distances are divided by a length of the
image (`normalisers`), averaged over points, then over images, then over draws of training images; all in per cent.

Legend: n images, K landmarks, P annotated points. Points are pixels of a crop of 128, (n, K, 2) or (n, P, 2), NaN = missing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uldscale.evaluation.draws import Draw, kind_of_draws, make_draws
from uldscale.evaluation.protocols import Normaliser, Protocol, normalisers, protocols_for, select_points
from uldscale.evaluation.regression import column_means, fill, fit

__all__ = [
    "NmeResult",
    "Normaliser",
    "Protocol",
    "YawBin",
    "by_yaw",
    "detection_rate",
    "evaluate",
    "evaluate_all",
    "mean_shape",
    "measurable",
    "normalisers",
    "protocols_for",
    "select_points",
]

MIN_NORMALISER_PX = 1.0
"""Of a crop of 128: an image whose eyes are nearer to each other has no error in parts of their distance."""
MIN_BACKWARD_IMAGES = 2
YAW_EDGES = (0.0, 30.0, 60.0, 90.0)

Points = NDArray[np.float64]


@dataclass(frozen=True)
class NmeResult:
    """Errors in per cent of one method under one protocol."""

    protocol: str
    normaliser: str
    num_train: int  # images that each regressor was fitted on
    num_test: int  # images that count
    num_skipped: int  # annotated test images without a usable normaliser
    forward: float
    backward: float
    forward_ced: tuple[float, ...]  # the field's CED: mean errors of points, ascending, their running mean
    backward_ced: tuple[float, ...]
    per_image_forward: tuple[float, ...]  # all test images; NaN where the image does not count
    per_image_backward: tuple[float, ...]  # mean over its landmarks; NaN, too, where it has none

    def to_json(self) -> dict[str, Any]:
        """Everything but the errors of single images, as plain values."""
        return {name: value for name, value in vars(self).items() if not name.startswith("per_image")}


@dataclass(frozen=True)
class YawBin:
    """NME over the images with low <= |yaw| < high degrees; the last bin takes all above, too."""

    low: float
    high: float
    count: int
    forward: float | None  # None without images
    backward: float | None  # None, too, where no image has a landmark


@dataclass(frozen=True)
class _Images:
    """Images with at least one of the protocol's points."""

    landmarks: Points  # (n, K, 2)
    truth: Points  # (n, P, 2)
    lengths: Points  # (n,) normalisers
    rows: NDArray[np.int64]  # (n,) numbers in the whole split

    def take(self, which: NDArray[np.int64]) -> "_Images":
        return _Images(self.landmarks[which], self.truth[which], self.lengths[which], self.rows[which])


def evaluate(
    predicted_train: NDArray[np.floating],
    truth_train: NDArray[np.floating],
    predicted_test: NDArray[np.floating],
    truth_test: NDArray[np.floating],
    protocol: Protocol,
    seed: int,
) -> NmeResult:
    """Forward and backward NME of landmarks against annotated points; images without any annotated point are left out.

    Missing landmarks are completed for training and take the training mean for the forward test. Backward, a landmark
    is fitted and measured where it is present, and counts as 100 % when it has fewer than 2 training images or no test
    image. Missing annotated points are left out of errors. Raises ValueError when no image is left to fit or measure.
    """
    return evaluate_all(predicted_train, truth_train, predicted_test, truth_test, [protocol], seed)[protocol.name]


def evaluate_all(
    predicted_train: NDArray[np.floating],
    truth_train: NDArray[np.floating],
    predicted_test: NDArray[np.floating],
    truth_test: NDArray[np.floating],
    protocols: Iterable[Protocol],
    seed: int,
) -> dict[str, NmeResult]:
    """`evaluate` under each protocol, by name; those with the same draws share them."""
    drawn: dict[tuple[object, ...], list[Draw]] = {}
    results = {}
    for protocol in protocols:
        kind = kind_of_draws(protocol)
        if kind not in drawn:
            train = _annotated(predicted_train, truth_train, protocol)
            drawn[kind] = make_draws(train.landmarks, train.truth, protocol, seed)
        annotated = _annotated(predicted_test, truth_test, protocol)
        results[protocol.name] = _result(drawn[kind], annotated, len(truth_test), protocol)
    return results


def _result(draws: list[Draw], annotated: _Images, num_images: int, protocol: Protocol) -> NmeResult:
    num_train, test = len(draws[0].points), _measured(annotated)
    if num_train == 0 or len(test.rows) == 0:
        raise ValueError(f"{protocol.name} wants annotated images, got {num_train} and {len(test.rows)} of them")
    errors = [(_forward(draw, test, protocol), _backward(draw, test, protocol)) for draw in draws]
    forward = 100 * np.mean([error[0] for error in errors], axis=0)
    backward = 100 * np.concatenate([error[1] for error in errors], axis=1)
    by_landmark = 100 * np.mean([_by_landmark(error[1]) for error in errors], axis=0)
    per_image, per_image_backward = np.full((2, num_images), np.nan)
    per_image[test.rows] = _mean_of_known(forward, axis=1)
    per_image_backward[test.rows] = _mean_of_known(backward, axis=1)
    return NmeResult(
        protocol=protocol.name,
        normaliser=protocol.normaliser,
        num_train=num_train,
        num_test=len(test.rows),
        num_skipped=len(annotated.rows) - len(test.rows),
        forward=float(per_image[test.rows].mean()),
        backward=float(by_landmark.mean()),
        forward_ced=_ced(_mean_of_known(forward, axis=0)),
        backward_ced=_ced(by_landmark),
        per_image_forward=tuple(per_image.tolist()),
        per_image_backward=tuple(per_image_backward.tolist()),
    )


def measurable(truth_test: NDArray[np.floating], protocol: Protocol) -> bool:
    """Whether any test image has the protocol's normaliser."""
    return len(_measured(_annotated(np.zeros((len(truth_test), 1, 2)), truth_test, protocol)).rows) > 0


def mean_shape(
    truth_train: NDArray[np.floating], truth_test: NDArray[np.floating], protocol: Protocol, seed: int
) -> float:
    """Forward NME in per cent without any landmark: the mean of the same training images for every test image."""
    nothing_train, nothing_test = (np.zeros((len(truth), 1, 2)) for truth in (truth_train, truth_test))
    return evaluate(nothing_train, truth_train, nothing_test, truth_test, protocol, seed).forward


def detection_rate(predicted: NDArray[np.floating]) -> Points:
    """Share (K,) of the images in which each landmark of (n, K, 2) is present."""
    return np.asarray(np.isfinite(predicted).all(axis=-1).mean(axis=0))


def by_yaw(result: NmeResult, yaw: NDArray[np.floating]) -> list[YawBin]:
    """NME of the test images by |yaw| (n,) in degrees; images without error or yaw are left out (paper Figure 3b)."""
    forward, backward = np.asarray(result.per_image_forward), np.asarray(result.per_image_backward)
    bins = np.where(np.isfinite(forward + yaw), np.searchsorted(YAW_EDGES[1:-1], np.abs(yaw), side="right"), -1)
    return [
        YawBin(low, high, int((bins == number).sum()), _mean(forward[bins == number]), _mean(backward[bins == number]))
        for number, (low, high) in enumerate(pairwise(YAW_EDGES))
    ]


def _mean(values: Points) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def _annotated(predicted: NDArray[np.floating], truth: NDArray[np.floating], protocol: Protocol) -> _Images:
    landmarks, points = _whole_points(predicted), _whole_points(select_points(truth, protocol))
    images = _Images(landmarks, points, normalisers(points, protocol.normaliser), np.arange(len(points)))
    return images.take(np.flatnonzero(np.isfinite(points).any(axis=(1, 2))))


def _measured(annotated: _Images) -> _Images:
    return annotated.take(np.flatnonzero(annotated.lengths >= MIN_NORMALISER_PX))


def _whole_points(points: NDArray[np.floating]) -> Points:
    """The points (n, m, 2) with both coordinates NaN where one is."""
    known = np.isfinite(points).all(axis=-1, keepdims=True)
    return np.where(known, points, np.nan).astype(np.float64)


def _forward(draw: Draw, test: _Images, protocol: Protocol) -> Points:
    """Normalised errors (n, P) of annotated points; NaN where a point is not annotated."""
    regressor = fit(draw.completed_landmarks, draw.completed_points, protocol.ridge_forward)
    predicted = regressor.predict(fill(_flat(test.landmarks), column_means(_flat(draw.landmarks))))
    distances = np.linalg.norm(predicted.reshape(test.truth.shape) - test.truth, axis=-1)
    return np.asarray(distances / test.lengths[:, None])


def _backward(draw: Draw, test: _Images, protocol: Protocol) -> Points:
    """Normalised errors (n, K) of landmarks; NaN where one is missing, or has too few training images for a regressor."""
    test_truth = fill(_flat(test.truth), column_means(_flat(draw.points)))
    errors = np.full(test.landmarks.shape[:2], np.nan)
    for k in range(test.landmarks.shape[1]):
        fitted, measured = (np.isfinite(landmarks[:, k, 0]) for landmarks in (draw.landmarks, test.landmarks))
        if fitted.sum() >= MIN_BACKWARD_IMAGES:
            regressor = fit(draw.completed_points[fitted], draw.landmarks[fitted, k], protocol.ridge_backward)
            distances = np.linalg.norm(regressor.predict(test_truth[measured]) - test.landmarks[measured, k], axis=-1)
            errors[measured, k] = distances / test.lengths[measured]
    return errors


def _by_landmark(errors: Points) -> Points:
    """Mean (K,) of errors (n, K), 1 for a landmark that has none."""
    return np.where(np.isfinite(errors).any(axis=0), _mean_of_known(errors, axis=0), 1.0)


def _flat(points: Points) -> Points:
    return points.reshape(len(points), -1)


def _mean_of_known(errors: Points, axis: int) -> Points:
    known = np.isfinite(errors)
    count = known.sum(axis=axis)
    return np.asarray(np.where(count > 0, np.where(known, errors, 0).sum(axis=axis) / np.maximum(count, 1), np.nan))


def _ced(errors: Points) -> tuple[float, ...]:
    ascending = np.sort(errors[np.isfinite(errors)])
    return tuple((np.cumsum(ascending) / np.arange(1, len(ascending) + 1)).tolist())
