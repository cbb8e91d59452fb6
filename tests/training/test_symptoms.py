"""Each symptom on landmarks that have it, none on those of a good run."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from uldscale.training import symptoms
from uldscale.training.schedule import TrainConfig
from uldscale.training.warnings import Symptom

FACE = np.array(
    [[0.3, 0.3], [0.7, 0.3], [0.35, 0.4], [0.65, 0.4], [0.5, 0.55], [0.4, 0.7], [0.6, 0.7], [0.5, 0.8]], dtype=float
)


@pytest.fixture
def good() -> NDArray[np.float64]:
    """50 images of a face that is never quite at the same place, with a landmark missing now and then."""
    rng = np.random.default_rng(0)
    points = FACE + rng.normal(0, 0.04, (50, 1, 2)) + rng.normal(0, 0.01, (50, 8, 2))
    points[rng.random((50, 8)) < 0.05] = np.nan
    return points


def names(found: list[Symptom]) -> list[str]:
    return [symptom.name for symptom in found]


def test_a_good_run_has_none(good: NDArray[np.float64]) -> None:
    assert symptoms.of_places(good, 0.1) == []
    rounds = [{"churn": 0.17}, {"churn": 0.02}]
    assert symptoms.of_churn("d_uld_pp", rounds, [{"churn": 0.0004}, {"churn": 0.0006}]) == []
    assert symptoms.of_background(np.full((20, 8), 0.8)) == []
    assert symptoms.of_schedule(schedule(batch=12, steps=160), 500) == []


def test_all_on_one_eye(good: NDArray[np.float64]) -> None:
    centre = np.nanmean(good, axis=1, keepdims=True)
    (found,) = symptoms.of_places(centre + (good - centre) / 5, 0.1)
    assert found.name == "collapsed"
    assert "data.roi" in found.remedy


def test_some_share_a_place(good: NDArray[np.float64]) -> None:
    good[:, 5] = good[:, 2] + 0.005
    (found,) = symptoms.of_places(good, 0.1)
    assert (found.name, found.seen) == ("together", "landmarks share a place: 2 and 5")


def test_on_the_frame(good: NDArray[np.float64]) -> None:
    good[:, :2, 1] = 0.11
    (found,) = symptoms.of_places(good, 0.1)
    assert found.name == "frame"
    assert found.seen.startswith("2 of 8 landmarks (0 and 1)")


def test_a_ring_that_ignores_the_object(good: NDArray[np.float64]) -> None:
    ring = 0.5 + 0.3 * np.stack([np.cos(np.arange(8)), np.sin(np.arange(8))], -1)
    still = ring + np.random.default_rng(0).normal(0, 0.003, (50, 8, 2))
    assert names(symptoms.of_places(still, 0.1)) == ["still"]
    shift = np.tile([[1, 0, 0.1], [0, 1, 0], [0, 0, 1]], (50, 1, 1))
    assert names(symptoms.of_moves(still, still, shift)) == ["static"]
    assert symptoms.of_moves(good, good + [0.1, 0], shift) == []


def test_few_are_visible(good: NDArray[np.float64]) -> None:
    rare = good.copy()
    rare[6:, 3] = np.nan
    (found,) = symptoms.of_places(rare, 0.1)
    assert (found.name, found.seen) == ("few_visible", "landmarks on fewer than 20 % of the images: 3")
    good[:, 4:] = np.nan
    (found,) = symptoms.of_places(good, 0.1)
    assert found.seen.startswith("few landmarks are visible: an image has 3.")
    assert names(symptoms.of_places(np.full((5, 8, 2), np.nan), 0.1)) == ["few_visible"]


def test_left_and_right_change_places(good: NDArray[np.float64]) -> None:
    good[::4] = good[::4][:, [1, 0, 3, 2, 4, 6, 5, 7]]
    (found,) = symptoms.of_places(good, 0.1)
    assert found.name == "exchanged"
    assert found.seen.endswith("0, 1, 2, 3, 5 and 6")


@pytest.mark.parametrize(
    ("first", "last", "wanted"),
    [
        ([0.003, 0.001], [0.001], ["labels_still"]),
        ([0.17, 0.02], [0.3, 0.25], ["labels_restless"]),
        ([0.17], [0.17], []),
        ([], [], []),
    ],
)
def test_churn(first: list[float], last: list[float], wanted: list[str]) -> None:
    rounds: list[list[dict[str, Any]]] = [[{}, *({"churn": share} for share in shares)] for shares in (first, last)]
    assert names(symptoms.of_churn("d_uld_pp", *rounds)) == wanted


def test_most_on_the_background() -> None:
    ranks = np.full((20, 8), 0.8)
    ranks[:, :4] = 0.3
    assert symptoms.of_background(ranks) == []
    ranks[:, 4] = 0.3
    ranks[::2, 4] = np.nan
    (found,) = symptoms.of_background(ranks)
    assert (found.name, found.seen[:40]) == ("background", "5 of 8 landmarks (0, 1, 2, 3 and 4) seem")


def schedule(batch: int, steps: int) -> TrainConfig:
    stage = {"steps": steps, "learning_rate": 1e-3}
    labelled = {**stage, "relabel_every": 2}
    return TrainConfig.model_validate(
        {"batch": batch, "bootstrap": stage, "d_uld": labelled, "d_uld_pose_proxy": stage, "d_uld_pp": labelled}
    )


def test_more_epochs_than_were_ever_good_and_few_images() -> None:
    few, many = symptoms.of_schedule(schedule(batch=10, steps=600), 300)
    assert (few.name, many.name) == ("few_images", "many_epochs")
    assert "are many: d_uld 20, d_uld_pose_proxy 20" in many.seen, "the bootstrap has no labels to learn by heart"
    assert "train.d_uld.epochs=5" in many.remedy
    (many,) = symptoms.of_schedule(schedule(batch=10, steps=600), 500)
    assert many.name == "many_epochs"


def test_a_spread_covers_all() -> None:
    assert symptoms.spread(np.arange(100), 3).tolist() == [0, 50, 99]
    assert symptoms.spread(np.arange(2), 3).tolist() == [0, 1]
