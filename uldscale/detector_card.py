"""The model card of a detector: README.md of its model folder, with the front matter that the Hugging Face hub reads."""

from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from uldscale import files
from uldscale.diffusion.folder import EMBEDDED, HUB_ID

PLACE = "path/to/this/folder"
"""What stands in a card for the place of its model."""


def write_card(folder: str, result: Mapping[str, Any], method: str) -> None:
    """README.md of a model folder, with the numbers of a method in result.json; nothing where there is no model yet."""
    if not files.exists(files.join(folder, "config.json")):
        return
    config = files.read_json(files.join(folder, "config.json"))
    dataset, measures = result["dataset"], result["methods"].get(method)
    card = detector_card(config, config.get("names"), dataset["name"], dataset, measures)
    files.write_bytes(files.join(folder, "README.md"), card.encode())


def detector_card(
    config: Mapping[str, Any],
    names: Sequence[str] | None,
    title: str,
    dataset: Mapping[str, Any] | None = None,
    measures: Mapping[str, Any] | None = None,
) -> str:
    """Markdown: what the model is, how to call it and what it was measured to do.

    `config` is config.json, `dataset` and `measures` are those of the data and of the method in result.json, if it was measured.
    """
    features = config["features"]
    backbone = features["backbone"]["model"]
    known = backbone == EMBEDDED or HUB_ID.fullmatch(backbone) is not None
    return f"""---
{_front_matter(title, backbone, dataset, measures)}
---

# {title.rpartition("/")[2]}: landmarks without annotations

A landmark detector that uldscale (D-ULD++, CVPR 2024) learned from images alone. Which part of the object a
landmark stands for was discovered, not chosen.

```python
from uldscale.detector import LandmarkDetector

detector = LandmarkDetector.from_pretrained("{PLACE}")
landmarks = detector(["some/image.jpg"])
landmarks.points  # (1, K, 2) pixels, NaN where a landmark is missing
```

- features: diffusion model `{backbone}`{"" if known else _WHERE}, timesteps {features["timesteps"]}, weights {config["weight_hash"][:12]}
- crops: {config["image_size"]} px; the object is what lies {100 * config["border"]:.3g} % or more from every side
{_named(names)}

{_results(dataset, measures)}"""


_WHERE = " (give `backbone=` where yours is)"


def _front_matter(
    title: str, backbone: str, dataset: Mapping[str, Any] | None, measures: Mapping[str, Any] | None
) -> str:
    data = dataset["name"] if dataset else ""
    found = [
        EvalResult(
            task_type="keypoint-detection", dataset_type=data, dataset_name=data, dataset_split="test", metric_type="nme",
            metric_name=f"{way} NME, {protocol}, % of {errors['normaliser']}", metric_value=round(errors[way], 4),
        )
        for protocol, errors in (measures or {}).get("nme", {}).items()
        for way in ("forward", "backward")
    ]  # fmt: skip
    matter = ModelCardData(
        base_model=backbone if HUB_ID.fullmatch(backbone) else None, library_name="uldscale", pipeline_tag="keypoint-detection",
        tags=["landmark-detection", "unsupervised"], model_name=title.rpartition("/")[2], eval_results=found or None,
    )  # fmt: skip
    return matter.to_yaml()


def _named(names: Sequence[str] | None) -> str:
    return f"- landmarks: {', '.join(names)}" if names else "- landmarks: not named"


def _results(dataset: Mapping[str, Any] | None, measures: Mapping[str, Any] | None) -> str:
    if dataset is None or measures is None:
        return "It has not been measured.\n"
    images = f"{dataset['train_images']} training and {dataset['test_images']} test images"
    rate = f"{100 * measures['detection_rate']:.1f} %"
    lines = [
        "## Measured",
        "",
        f"On data set `{dataset['name']}`, {images}. Of the landmarks that were sought, {rate} were found.",
    ]
    if measures.get("consistency_px") is not None:
        lines.append(
            f"Consistency, between an image and a moved view of it: {measures['consistency_px']:.2f} px of 128."
        )
    return "\n".join([*lines, "", *_errors(measures.get("nme", {})), ""])


def _errors(nme: Mapping[str, Any]) -> list[str]:
    """A table of the protocols, in per cent of their normalisers."""
    if not nme:
        return ["No annotated points were there to measure it against."]
    return [
        "Normalised mean errors in per cent. Forward regresses annotated points from landmarks, backward landmarks from points.",
        "",
        "| protocol | normaliser | images of the fit | test images | forward | backward |",
        "|---|---|--:|--:|--:|--:|",
        *map(_row, nme.values()),
    ]


def _row(errors: Mapping[str, Any]) -> str:
    counts = f"{errors['num_train']} | {errors['num_test']}"
    return f"| {errors['protocol']} | {errors['normaliser']} | {counts} | {errors['forward']:.2f} | {errors['backward']:.2f} |"
