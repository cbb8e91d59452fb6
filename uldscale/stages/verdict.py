"""A result in words: what was found, how sure it is, compared with what."""

from typing import Any

from uldscale.stages.tables import NORMALISERS, protocols, title_of
from uldscale.stages.zero_shot import METHOD as ZERO_SHOT

MEAN_SHAPE = "mean_shape"
CALM, RESTLESS = 2.0, 5.0
"""Consistency in px of 128 up to which a landmark is sure, and from which on it is not; good runs have 1 to 2, ZeroShot 10 and more."""
OFTEN, SELDOM = 0.9, 0.5
"""Share of images on which a sure landmark is found, and below which none is."""


def judged(result: dict[str, Any]) -> str:
    """What the images are on which methods were measured."""
    return "test images" if result["dataset"]["test_images"] else "training images"


def verdict(result: dict[str, Any], method: str, landmarks: int) -> list[str]:
    """Sentences about one method of a result, and how many landmarks (K) it has."""
    measures, warned = result["methods"][method], _warned(len(result["warnings"]))
    return [
        *([warned] if result["warnings"] else []),
        *_found(result, method, landmarks),
        *_sure(result, method),
        *(_errors(result, method) if "nme" in measures else [_UNANNOTATED]),
        *(_against(result, method, other) for other in measures.get("against", {}) if protocols(result)),
        *([] if result["dataset"]["test_images"] else [_UNTESTED]),
        *([] if result["warnings"] else [warned]),
    ]


def surety(share: float, consistency: float | None) -> str:
    """A landmark in a word, by the share of images on which it is found, and how far from where the image was moved, in px of 128."""
    if consistency is None:
        return "not measured" if share else "never found"
    if share >= OFTEN and consistency <= CALM:
        return "sure"
    return "unsure" if share < SELDOM or consistency > RESTLESS else "fair"


_UNANNOTATED = (
    "No test image is annotated, so nobody can say how near the landmarks are to points that people would choose: look at the "
    "pictures."
)
_UNTESTED = "There is no test set: all was measured on the images that the landmarks were learned from, which flatters; give data.test."


def _found(result: dict[str, Any], method: str, landmarks: int) -> list[str]:
    dataset, rate = result["dataset"], result["methods"][method]["detection_rate"]
    count = dataset["test_images"] or dataset["train_images"]
    return [
        f"{title_of(method)} found {landmarks} landmarks on images of {dataset['name']}, without annotations.",
        f"An image shows {rate * landmarks:.1f} of them on average, of {count:,} {judged(result)}.",
    ]


def _sure(result: dict[str, Any], method: str) -> list[str]:
    error = result["methods"][method].get("consistency_px")
    if error is None:
        return []
    before = result["methods"].get(ZERO_SHOT, {}).get("consistency_px")
    than = f" (ZeroShot, before any training: {before:.1f})" if before is not None and method != ZERO_SHOT else ""
    how = (
        "they are sure" if error <= CALM else "some of them are not sure" if error <= RESTLESS else "they are not sure"
    )
    return [
        f"When an image is turned, scaled and shifted, they follow it to within {error:.1f} px of a crop of 128{than}: {how}."
    ]


def _errors(result: dict[str, Any], method: str) -> list[str]:
    name = next(iter(protocols(result)), None)
    if name is None:
        return []
    errors = result["methods"][method]["nme"][name]
    others = {"the mean shape, which sees no image": result["baselines"][MEAN_SHAPE][name]}
    if ZERO_SHOT in result["methods"] and method != ZERO_SHOT:
        others["ZeroShot"] = result["methods"][ZERO_SHOT]["nme"][name]["forward"]
    compared = ", ".join(f"{other} {error:.2f} %" for other, error in others.items())
    return [
        f"A linear regressor tells annotated points from them with an error of {errors['forward']:.2f} % of "
        f"{NORMALISERS[errors['normaliser']]} ({name}, forward, {errors['num_test']:,} images; {compared})."
    ]


def _against(result: dict[str, Any], method: str, other: str) -> str:
    pairs = result["methods"][method]["against"][other][protocols(result)[0]]
    parts = [f"{way} {_difference(pairs[way])}" for way in ("forward", "backward") if way in pairs]
    return (
        f"Compared with {title_of(other)} image by image, its errors are {' and '.join(parts)}. The intervals are of these images; "
        "with another seed they may be others."
    )


def _difference(pair: dict[str, float]) -> str:
    interval = f"({pair['mean']:+.2f}, 95 % of bootstrap samples from {pair['low']:+.2f} to {pair['high']:+.2f})"
    return f"{'lower' if pair['high'] < 0 else 'higher' if pair['low'] > 0 else 'level'} {interval}"


def _warned(count: int) -> str:
    if not count:
        return "No warning: nothing looks wrong."
    return f"{'One thing looks' if count == 1 else f'{count} things look'} wrong: read the warnings before the numbers."
