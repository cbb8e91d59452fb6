"""What shows that a run goes wrong, with what to try; it needs no annotations.

Legend: n images, K landmarks. Points are unit coordinates of the crop, NaN = missing. Thresholds are for crops that show one object
about as large as they are; measured values are of generated and of real faces (benchmarks/results/open_points.md).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uldscale.evaluation import exchanges, placement
from uldscale.training.schedule import Stage, TrainConfig
from uldscale.training.warnings import Symptom

Points = NDArray[np.floating]

MOST_EPOCHS = 10.0
"""Of a stage: 2 to 6 were best with 500 and with 2,900 images; after 10 a network knew its own labels by heart."""
LEAST_IMAGES = 400
"""The fewest with which anything was measured; from there down every halving has to be tried."""
SETTLED = 0.01
"""Churn of a first round below which labels have not moved at all: 0.16 to 0.18 in runs that went well."""
RESTLESS = 0.1
"""Churn of a last round above which labels have not settled: 0.0005 to 0.03 in runs that went well."""
SMALL = 0.08
"""Extent of landmarks that sit on one spot: those on one eye have 0.05, on a whole face 0.16 to 0.24."""
TOGETHER = 0.03
"""Distance of two landmarks that have one place: less than 4 px of 128. Those that kept apart had 8 px and more."""
STILL = 0.01
"""Scatter of a landmark that is at one place of every crop, about a pixel of 128; eyes in crops that are cut around faces have 0.08."""
UNMOVED = 0.5
"""Share of moved images in which a landmark stays, for one that ignores what it is shown."""
ON_FRAME = 0.5
"""Share of images in which a landmark is on the frame, for one that lives there."""
MANY = 0.25
"""Share of landmarks at which a fault of some is a fault of the run."""
MOSTLY_FOUND = 0.6
"""Share of landmarks that an image of a run that went well has at least; turned heads had 0.95 and more."""
RARELY_FOUND = 0.2
"""Share of images below which a landmark tells nothing."""
EXCHANGED = 0.1
"""Share of images: what a tenth of them confuses, a regressor cannot mend; without a fault it was 0."""
CHANCE = 0.5
"""Rank of a place that has nothing to do with the object; landmarks on faces have 0.7 to 0.95."""
SAMPLE = 2000
"""Images that are looked at, however many there are."""


def spread(rows: NDArray[np.int64], most: int = SAMPLE) -> NDArray[np.int64]:
    """At most so many of some rows, spread over all of them."""
    return np.asarray(rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int)])


def of_schedule(config: TrainConfig, images: int) -> list[Symptom]:
    """Of stages in steps and so many training images, before anything is computed."""
    found = []
    if images < LEAST_IMAGES:
        seen = f"{images} training images are few: nothing was tried with fewer than {LEAST_IMAGES}"
        remedy = "add images, or take few epochs, few landmarks and few poses (train.clusters)"
        found.append(Symptom("few_images", seen, remedy))
    # What is learned by heart are labels, and the bootstrap has none.
    learning = [stage for stage in config.stages if stage is not Stage.BOOTSTRAP]
    epochs = {stage.value: config.of(stage).steps * config.batch / images for stage in learning}
    if long := {stage: count for stage, count in epochs.items() if count > MOST_EPOCHS}:
        seen = (
            f"epochs over {images} images are many: {', '.join(f'{name} {count:.0f}' for name, count in long.items())}"
        )
        remedy = f"add images, or set train.<stage>.epochs to 2 to 6 in the place of steps, e.g. train.{next(iter(long))}.epochs=5"
        found.append(Symptom("many_epochs", seen, remedy))
    return found


def of_churn(stage: str, first: Sequence[Mapping[str, Any]], last: Sequence[Mapping[str, Any]]) -> list[Symptom]:
    """Of the rounds of labels of the first stage that has some, and of the last one, `stage`; a round has its share of changed labels
    as "churn", but for the very first.
    """
    begun, ended = ([event["churn"] for event in rounds if "churn" in event] for rounds in (first, last))
    found = []
    if begun and begun[0] < SETTLED:
        seen = f"labels stood still at once: {100 * begun[0]:.2f} % of them changed in the first round of training"
        remedy = "look whether the landmarks are on the object; raise train.d_uld.learning_rate, or make the bootstrap shorter"
        found.append(Symptom("labels_still", seen, remedy))
    # Two rounds may both be of the time in which much moves.
    if len(ended) > 1 and ended[-1] > RESTLESS:
        seen = f"labels do not settle: {100 * ended[-1]:.0f} % of them changed in the last round of {stage}"
        remedy = f"make the stage longer (train.{stage}.epochs), or lower train.{stage}.learning_rate or train.clusters.landmarks"
        found.append(Symptom("labels_restless", seen, remedy))
    return found


def of_places(points: Points, border: float) -> list[Symptom]:
    """Of landmarks (n, K, 2) that are sought `border` away from the edge of the crop."""
    shares = placement.shares_found(points)
    if not shares.any():
        return [Symptom("few_visible", "no landmark was found on any image", _VISIBLE)]
    return [*_collapsed(points), *_on_frame(points, border), *_still(points), *_visible(shares), *_exchanged(points)]


def of_moves(points: Points, moved: Points, matrices: NDArray[np.floating]) -> list[Symptom]:
    """Of landmarks (n, K, 2) in images and in moved views of them; see `placement.shares_unmoved`."""
    unmoved = np.flatnonzero(np.nan_to_num(placement.shares_unmoved(points, moved, matrices)) > UNMOVED)
    if len(unmoved) < MANY * points.shape[1]:
        return []
    seen = f"{_landmarks(unmoved, points)} stay where they are in the crop when the image is moved under them"
    return [Symptom("static", seen, _STATIC)]


def of_background(ranks: NDArray[np.floating]) -> list[Symptom]:
    """Of how deep in the object landmarks are, (n, K) ranks of `background.ranks`."""
    known = np.isfinite(ranks)
    means = np.where(known, ranks, 0).sum(0) / np.maximum(1, known.sum(0))
    outside = np.flatnonzero(known.any(0) & (means <= CHANCE))
    if len(outside) <= ranks.shape[1] / 2:
        return []
    seen = (
        f"{_landmarks(outside, ranks)} seem to be on the background: no more on the object than points thrown at random"
    )
    remedy = (
        "say where the object is (data.roi), lower data.roi.margin, or take a diffusion model that knows such objects"
    )
    return [Symptom("background", seen, remedy)]


def _collapsed(points: Points) -> list[Symptom]:
    if (extent := placement.extent(points)) < SMALL:
        seen = f"all landmarks sit on one spot: they reach {100 * extent:.1f} % of the crop from their centre"
        remedy = (
            "say where the object is (data.roi) if it is small in its images; else raise train.clusters.spacing, or take a "
            "diffusion model that knows such objects"
        )
        return [Symptom("collapsed", seen, remedy)]
    together = placement.groups(placement.pair_distances(points), TOGETHER)
    if not together:
        return []
    seen = f"landmarks share a place: {'; '.join(_listed(group) for group in together)}"
    remedy = "set train.losses.negatives=near, raise train.clusters.spacing, or lower train.clusters.landmarks"
    return [Symptom("together", seen, remedy)]


def _on_frame(points: Points, border: float) -> list[Symptom]:
    there = np.flatnonzero(placement.shares_on_frame(points, border) > ON_FRAME)
    if len(there) < MANY * points.shape[1]:
        return []
    remedy = (
        "give more room around the object (data.roi.context, data.roi.margin), or boxes that hold all of it (data.roi)"
    )
    return [Symptom("frame", f"{_landmarks(there, points)} lie on the edge of the area where they are sought", remedy)]


def _still(points: Points) -> list[Symptom]:
    still = np.flatnonzero(np.nan_to_num(placement.scatter(points), nan=np.inf) < STILL)
    if len(still) < MANY * points.shape[1]:
        return []
    return [Symptom("still", f"{_landmarks(still, points)} are at the same place of the crop on every image", _STATIC)]


def _visible(shares: NDArray[np.float64]) -> list[Symptom]:
    if shares.mean() < MOSTLY_FOUND:
        seen = f"few landmarks are visible: an image has {shares.sum():.1f} of {len(shares)}"
        return [Symptom("few_visible", seen, _VISIBLE)]
    if rare := np.flatnonzero(shares < RARELY_FOUND).tolist():
        seen = f"landmarks on fewer than {100 * RARELY_FOUND:.0f} % of the images: {_listed(rare)}"
        return [Symptom("few_visible", seen, _VISIBLE)]
    return []


def _exchanged(points: Points) -> list[Symptom]:
    shares = exchanges.shares_exchanged(points)
    if shares.max() < EXCHANGED:
        return []
    names = _listed(np.flatnonzero(shares >= EXCHANGED).tolist())
    seen = f"landmarks change places from image to image, such as left and right, on up to {100 * shares.max():.0f} % of them: {names}"
    remedy = (
        "keep extract.views.flip=false and mirrored copies out of the images, or take a diffusion model that knows such objects; where "
        "the object itself appears mirrored, such as left and right hands, it is right"
    )
    return [Symptom("exchanged", seen, remedy)]


_STATIC = (
    "cut the object out more loosely (data.roi.margin), take more moved views (extract.views: rotation, scale, shift), or a diffusion "
    "model that knows such objects"
)
_VISIBLE = "lower train.keypoints.visible, train.clusters.poses or train.clusters.landmarks, or look whether images show the object"


def _landmarks(some: NDArray[np.int64], of: NDArray[np.floating]) -> str:
    return f"{len(some)} of {of.shape[1]} landmarks ({_listed(some.tolist())})"


def _listed(numbers: Sequence[int]) -> str:
    """0, 3 and 7."""
    *some, last = map(str, numbers)
    return f"{', '.join(some)} and {last}" if some else last
