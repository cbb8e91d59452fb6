"""The verdict in words, of results whose numbers are known."""

from typing import Any

import pytest

from uldscale.stages.verdict import surety, verdict


def result(**methods: dict[str, Any]) -> dict[str, Any]:
    dataset = {"name": "parts", "train_images": 500, "test_images": 150}
    return {"methods": methods, "shown": [], "baselines": {}, "dataset": dataset, "warnings": []}


def test_annotated() -> None:
    errors = {"forward": 8.03, "backward": 4.78, "normaliser": "interocular_36_45", "num_test": 150}
    pairs = {
        "forward": {"mean": -0.15, "low": -0.39, "high": 0.06},
        "backward": {"mean": -0.22, "low": -0.46, "high": -0.02},
    }
    told = result(
        zero_shot={"detection_rate": 0.99, "consistency_px": 14.66, "nme": {"68pt-300": {**errors, "forward": 13.56}}},
        d_uld_pp={
            "detection_rate": 0.95,
            "consistency_px": 1.88,
            "nme": {"68pt-300": errors},
            "against": {"d_uld": {"68pt-300": pairs}},
        },
    )
    told |= {"shown": ["68pt-300"], "baselines": {"mean_shape": {"68pt-300": 41.38}}}
    words = " ".join(verdict(told, "d_uld_pp", 10))
    for part in (
        "D-ULD++ found 10 landmarks on images of parts",
        "An image shows 9.5 of them on average, of 150 test images",
        "to within 1.9 px of a crop of 128 (ZeroShot, before any training: 14.7): they are sure",
        "8.03 % of the distance between the outer eye corners (68pt-300, forward, 150 images; the mean shape, which sees no image 41.38 %, "
        "ZeroShot 13.56 %)",
        "Compared with D-ULD image by image, its errors are forward level (-0.15, 95 % of bootstrap samples from -0.39 to +0.06) "
        "and backward lower (-0.22",
    ):
        assert part in words
    assert words.endswith("No warning: nothing looks wrong.")


def test_without_annotations_test_set_or_luck() -> None:
    told = result(d_uld={"detection_rate": 1.0, "consistency_px": 7.0})
    told["dataset"]["test_images"] = 0
    told["warnings"] = [{"name": "collapsed"}]
    sentences = verdict(told, "d_uld", 5)
    assert sentences[0] == "One thing looks wrong: read the warnings before the numbers."
    words = " ".join(sentences)
    for part in (
        "of them on average, of 500 training images",
        "they are not sure",
        "nobody can say",
        "There is no test set",
    ):
        assert part in words
    assert "test images" not in words


@pytest.mark.parametrize(
    ("share", "consistency", "word"),
    [
        (1.0, 1.5, "sure"),
        (0.8, 1.5, "fair"),
        (1.0, 3.0, "fair"),
        (0.4, 1.0, "unsure"),
        (1.0, 6.0, "unsure"),
        (1.0, None, "not measured"),
        (0.0, None, "never found"),
    ],
)
def test_how_sure_a_landmark_is(share: float, consistency: float | None, word: str) -> None:
    assert surety(share, consistency) == word
