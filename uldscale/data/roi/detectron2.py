"""Objects of a class that detectron2 knows, by a model of its zoo.

Source: github.com/facebookresearch/detectron2, which has no release for today's torch: it is built from its repository. The weights of
its zoo are pickles, which detectron2 fetches and opens itself; `roi.weights` takes safetensors in their place.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from uldscale import files
from uldscale.data.images import Pixels
from uldscale.data.roi.boxes import as_box
from uldscale.data.roi.settings import RoiConfig
from uldscale.data.sources import Box
from uldscale.errors import DataError


def load_detectron2(config: RoiConfig) -> Callable[[Pixels], list[Box]]:
    """A detector of `config.category`. Raises DataError without the package, the model or the class."""
    predictor, wanted = _load(config)

    def detect(image: Pixels) -> list[Box]:
        found = predictor(np.ascontiguousarray(image[:, :, ::-1]))["instances"].to("cpu")
        good = (found.pred_classes.numpy() == wanted) & (found.scores.numpy() >= config.threshold)
        return [as_box(box) for box in found.pred_boxes.tensor.numpy()[good]]

    return detect


def _load(config: RoiConfig) -> tuple[Callable[[Pixels], Any], int]:
    """A predictor of BGR images and the number of the wanted class."""
    try:
        from detectron2 import model_zoo
        from detectron2.config import get_cfg
        from detectron2.data import MetadataCatalog
        from detectron2.engine import DefaultPredictor
    except ImportError as error:
        raise DataError(
            f"roi.provider 'detectron2' needs a package that is not installed ({error.name}): build detectron2 from "
            "its repository github.com/facebookresearch/detectron2, or make boxes elsewhere and use roi.provider 'file'"
        ) from None
    settings = get_cfg()
    try:
        settings.merge_from_file(model_zoo.get_config_file(config.model))
        settings.MODEL.WEIGHTS = "" if config.weights else model_zoo.get_checkpoint_url(config.model)
    except RuntimeError as error:
        default = RoiConfig.model_fields["model"].default
        raise DataError(f"roi.model {config.model!r}: {error}; give a name such as {default}") from None
    settings.MODEL.DEVICE = config.device
    settings.MODEL.ROI_HEADS.SCORE_THRESH_TEST = config.threshold
    settings.MODEL.RETINANET.SCORE_THRESH_TEST = config.threshold
    names = list(MetadataCatalog.get(settings.DATASETS.TRAIN[0]).thing_classes)
    if config.category not in names:
        raise DataError(f"roi.category {config.category!r} is not a class of {config.model}: {', '.join(names)}")
    predictor = DefaultPredictor(settings)
    if config.weights:
        _fill(predictor.model, config.weights, config.model)
    return predictor, names.index(config.category)


def _fill(model: Any, weights: str, name: str) -> None:
    import safetensors.torch

    try:
        model.load_state_dict(safetensors.torch.load(files.read_bytes(weights)))
    except FileNotFoundError:
        raise DataError(f"roi.weights {weights!r} is not there") from None
    except (RuntimeError, safetensors.SafetensorError) as error:
        said = " ".join(str(error).split())[:200]
        raise DataError(f"roi.weights {weights!r} are not safetensors of {name}: {said}") from None
