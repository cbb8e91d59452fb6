"""Objects that a prompt describes, by a zero-shot detector of transformers such as OWLv2 or Grounding DINO.

Sources: M. Minderer et al., "Scaling Open-Vocabulary Object Detection", NeurIPS 2023; S. Liu et al., "Grounding DINO", ECCV 2024.
"""

from collections.abc import Callable
from typing import Any

from PIL import Image

from uldscale.data.images import Pixels
from uldscale.data.roi.boxes import distinct
from uldscale.data.roi.settings import RoiConfig
from uldscale.data.sources import Box
from uldscale.errors import DataError


def load_text(config: RoiConfig) -> Callable[[Pixels], list[Box]]:
    """A detector of what `config.prompt` says. Raises DataError when the model is not there or not a zero-shot detector."""
    import torch

    processor, model = _load(config)
    # Processors write it as their model wants it, such as with a full stop for Grounding DINO, if it has none.
    prompt = str(config.prompt).strip().rstrip(".")

    @torch.no_grad()
    def detect(image: Pixels) -> list[Box]:
        inputs = processor(images=Image.fromarray(image), text=[[prompt]], return_tensors="pt").to(config.device)
        found = processor.post_process_grounded_object_detection(
            model(**inputs), threshold=config.threshold, target_sizes=[image.shape[:2]]
        )[0]
        return distinct(found["boxes"].cpu().numpy(), found["scores"].cpu().numpy())

    return detect


def _load(config: RoiConfig) -> tuple[Any, Any]:
    from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

    try:
        processor = AutoProcessor.from_pretrained(config.model, revision=config.revision)
        model = AutoModelForZeroShotObjectDetection.from_pretrained(
            config.model, revision=config.revision, use_safetensors=True
        )
    except (OSError, ValueError, ImportError) as error:
        said = " ".join(str(error).split())[:200]
        raise DataError(
            f"roi.model {config.model!r} cannot be loaded: {said}; give the folder or hub id of a zero-shot detector, such as "
            "google/owlv2-base-patch16-ensemble"
        ) from None
    if not hasattr(processor, "post_process_grounded_object_detection"):
        raise DataError(
            f"roi.model {config.model!r} has no processor of a zero-shot detector; give a folder with its preprocessor and tokenizer files"
        )
    return processor, model.to(config.device).eval()
