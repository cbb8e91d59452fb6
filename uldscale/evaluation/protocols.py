"""Protocols of the NME: which points, which normaliser, how many training images, how often drawn.

A protocol's name stands beside every number, since numbers of different protocols cannot be compared.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Normaliser = Literal["interocular_36_45", "interocular_41_46", "interocular_60_72", "eye_centres", "box"]


_ENDS: dict[str, tuple[int, int]] = {
    "interocular_36_45": (36, 45),
    "interocular_41_46": (41, 46),
    "interocular_60_72": (60, 72),
    "eye_centres": (0, 1),
}


@dataclass(frozen=True)
class Protocol:
    """One way to measure the NME."""

    name: str
    points: Literal["all", "5"]
    """All annotated points, or the eyes, nose and mouth corners of 68 (or the five points themselves)."""
    num_train: int | None
    """Training images of the regressor, drawn at random; None = all."""
    repeats: int
    """Draws whose errors are averaged."""
    normaliser: Normaliser
    """36-45: outer eye corners (SAIC, CGB); 41-46: lower lids (KeypointsToLandmarks, UnsupervisedLandmarks); 60-72: outer eye
    corners of 98 points (WFLW)."""
    ridge_forward: float = 0.01
    ridge_backward: float = 0.01
    """0.01: UnsupervisedLandmarks and CGB, for all data sets."""


def protocols_for(num_points: int) -> list[Protocol]:
    """The protocols that `num_points` annotated points allow: the one for curves, the one for headlines, then others.

    68 points: `68pt-300`, `5pt-all`, and with the other normalisers `68pt-300-lids`, `68pt-300-box`; n others: `<n>pt-300`
    and `<n>pt-all`. 5 points (MAFL, AFLW) and 9 (CAT) begin with the eyes, whose distance is the normaliser, or else the box (`-box`,
    as CGB on cats): heads in profile have next to no distance between the eyes. 98 (WFLW) have their outer eye corners; any other
    number has the square root of the area of the points' box.
    `-ktl`: the same with the ridges that KeypointsToLandmarks, whose protocol the paper follows, has on MAFL (5 points, lids) or
    LS3D-W (box).
    """
    if num_points == 68:
        five, lids = _whole("5pt-all", "5", "eye_centres"), _drawn("68pt-300-lids", "all", "interocular_41_46")
        box = _drawn("68pt-300-box", "all", "box")
        return [_drawn("68pt-300", "all", "interocular_36_45"), five, lids, box, _ktl(five), _ktl(lids), _ktl(box)]
    points: Literal["all", "5"] = "5" if num_points == 5 else "all"
    lengths: dict[int, Normaliser] = {5: "eye_centres", 9: "eye_centres", 98: "interocular_60_72"}
    normaliser = lengths.get(num_points, "box")
    drawn, whole = _drawn(f"{num_points}pt-300", points, normaliser), _whole(f"{num_points}pt-all", points, normaliser)
    boxes = [_drawn(f"{num_points}pt-300-box", points, "box"), _whole(f"{num_points}pt-all-box", points, "box")]
    others = {5: [*boxes, _ktl(whole)], 9: boxes}
    return [drawn, whole, *others.get(num_points, [])]


def select_points(truth: NDArray[np.floating], protocol: Protocol) -> NDArray[np.float64]:
    """The protocol's points (n, P, 2) of the annotated points; an eye with a missing point is missing."""
    points = np.asarray(truth, dtype=np.float64)
    if protocol.points == "all" or points.shape[1] == 5:
        return points
    if points.shape[1] != 68:
        raise ValueError(f"{protocol.name} wants 68 or 5 annotated points, got {points.shape[1]}")
    eyes = np.stack([points[:, 36:42].mean(axis=1), points[:, 42:48].mean(axis=1)], axis=1)
    return np.concatenate([eyes, points[:, [30, 48, 54]]], axis=1)


def normalisers(truth: NDArray[np.floating], kind: Normaliser) -> NDArray[np.float64]:
    """Length (n,) that errors of each image are divided by, in the unit of the points (n, P, 2); NaN where unknown.

    `eye_centres`: distance of the first two points; `box`: square root of width times height of the known points.
    """
    points = np.asarray(truth, dtype=np.float64)
    if kind == "box":
        lowest, highest = np.fmin.reduce(points, axis=1), np.fmax.reduce(points, axis=1)
        return np.asarray(np.sqrt(np.prod(highest - lowest, axis=-1)))
    first, second = _ENDS[kind]
    return np.asarray(np.linalg.norm(points[:, first] - points[:, second], axis=-1))


def _drawn(name: str, points: Literal["all", "5"], normaliser: Normaliser) -> Protocol:
    return Protocol(name, points, num_train=300, repeats=10, normaliser=normaliser)


def _whole(name: str, points: Literal["all", "5"], normaliser: Normaliser) -> Protocol:
    # All images are the same draw every time.
    return Protocol(name, points, num_train=None, repeats=1, normaliser=normaliser)


def _ktl(protocol: Protocol) -> Protocol:
    forward = 0.1 if protocol.normaliser == "box" else 0.001
    return replace(protocol, name=f"{protocol.name}-ktl", ridge_forward=forward, ridge_backward=0.1)
