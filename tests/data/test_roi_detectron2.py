"""detectron2 itself, where it is installed: a model of its zoo that nobody has trained."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uldscale.data.images import BrokenImage
from uldscale.data.roi import RoiConfig, make_provider
from uldscale.data.sources import Record
from uldscale.errors import DataError

pytest.importorskip("detectron2", reason="detectron2 is not installed: it is built from its repository (README)")

MODEL = "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml"
IMAGE = np.random.default_rng(0).integers(0, 256, (60, 100, 3), np.uint8)
RECORD = Record("a", "a.png")
CAT = 15


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Random weights of the zoo's model, which sees cats everywhere."""
    import safetensors.torch
    import torch
    from detectron2 import model_zoo
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    settings = get_cfg()
    settings.merge_from_file(model_zoo.get_config_file(MODEL))
    settings.MODEL.DEVICE = "cpu"
    torch.manual_seed(0)
    model = build_model(settings)
    with torch.no_grad():
        # Without trained norms a random ResNet grows from block to block, until all boxes are the image.
        for name, weight in model.named_parameters():
            if name.endswith("conv3.weight"):
                weight *= 0.1
        model.roi_heads.box_predictor.cls_score.weight *= 0.01
        model.roi_heads.box_predictor.cls_score.bias[CAT] = 2
    path = tmp_path_factory.mktemp("detectron2") / "random.safetensors"
    safetensors.torch.save_file(model.state_dict(), path)
    return str(path)


def config(weights: str, **changes: Any) -> RoiConfig:
    return RoiConfig(**{"provider": "detectron2", "weights": weights, "category": "cat", "threshold": 0.01, **changes})


def test_boxes_are_those_of_the_predictor(weights: str) -> None:
    """Asked for in its own words: BGR, and a number for cat."""
    import safetensors.torch
    from detectron2 import model_zoo
    from detectron2.config import get_cfg
    from detectron2.engine import DefaultPredictor

    settings = get_cfg()
    settings.merge_from_file(model_zoo.get_config_file(MODEL))
    settings.MODEL.WEIGHTS, settings.MODEL.DEVICE, settings.MODEL.ROI_HEADS.SCORE_THRESH_TEST = "", "cpu", 0.01
    predictor = DefaultPredictor(settings)
    predictor.model.load_state_dict(safetensors.torch.load_file(weights))
    found = predictor(np.ascontiguousarray(IMAGE[:, :, ::-1]))["instances"]
    boxes = found.pred_boxes.tensor.numpy()[(found.pred_classes == CAT).numpy()]
    assert len(boxes) > 1
    sides = np.sort((boxes[:, 2:] - boxes[:, :2]).max(1))
    every = make_provider(config(weights, objects="all"))(RECORD, IMAGE)
    np.testing.assert_allclose(np.sort([x1 - x0 for x0, _, x1, _ in every]), sides[sides >= 1], rtol=1e-5)
    assert make_provider(config(weights))(RECORD, IMAGE) == every[:1]


def test_nothing_above_a_threshold(weights: str) -> None:
    with pytest.raises(BrokenImage, match=r"no cat found with a score of at least 0.9"):
        make_provider(config(weights, threshold=0.9))(RECORD, IMAGE)


def test_mistakes_are_named(weights: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'unicorn' is not a class of .*: person, bicycle, car"):
        make_provider(config(weights, category="unicorn"))
    with pytest.raises(DataError, match=r"roi.model 'none.yaml': .* give a name such as COCO-Detection"):
        make_provider(config(weights, model="none.yaml"))
    with pytest.raises(DataError, match=r"roi.weights '/none.safetensors' is not there"):
        make_provider(config("/none.safetensors"))
    (tmp_path / "bad").write_bytes(b"no weights")
    with pytest.raises(DataError, match=r"are not safetensors of COCO-Detection") as caught:
        make_provider(config(str(tmp_path / "bad")))
    assert "\n" not in str(caught.value)
