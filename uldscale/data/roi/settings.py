"""Settings of the regions of interest."""

from typing import Literal, Self

from pydantic import Field, model_validator

from uldscale.config import Settings

DETECTORS = ("detectron2", "text", "face")
"""Providers that look at the pixels."""


class RoiConfig(Settings):
    """Where the object is in each image."""

    provider: Literal["full", "annotation", "file", "detectron2", "text", "face"] = "full"
    """full: whole image, aspect not kept; annotation: bbox of the COCO file; file: own boxes; detectron2: a class of its model zoo;
    text: what a prompt says, by a zero-shot detector of transformers; face: dlib's face detector."""
    objects: Literal["largest", "all"] = "largest"
    """which of several objects in an image: all of them are a row each, the largest first, the others with #2, #3 … in their ids."""
    margin: float = Field(0.0, ge=0, le=2)
    """added on every side of the box, as a fraction of its longer side; not for full."""
    context: float = Field(0.0, ge=0, le=0.4)
    """share of the image on every side that is not the object; only for full, of images cropped with a margin of at most 2."""
    file: str | None = None
    """JSON {"id": [x0, y0, x1, y1]} or CSV with rows id,x0,y0,x1,y1 in pixels; for provider file. An id is the image's path below its
    folder, without extension. With objects: all a list of boxes or several rows for one id; [] where there is no object. Images that EXIF
    turns need data.exif, too."""
    model: str = "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml"
    """for provider detectron2 a config of its model zoo; for text a folder or hub id, as google/owlv2-base-patch16-ensemble or
    IDEA-Research/grounding-dino-tiny."""
    revision: str | None = None
    """commit, branch or tag of the model on the hub; for provider text."""
    weights: str | None = None
    """file of the weights of a detectron2 model in safetensors, by parameter; by default those of its model zoo."""
    category: str = "person"
    """class to look for, by its name in the data set of the detectron2 model, such as person or cat."""
    prompt: str | None = None
    """what to look for, such as "a cat" or "a hand"; for provider text."""
    threshold: float = Field(0.5, ge=0, le=1)
    """least score of a detection; zero-shot detectors want 0.1 to 0.35, and 0.5 is dlib's own boundary."""
    device: Literal["cpu", "cuda"] = "cpu"
    """where detectron2 and text run."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.provider == "file") != (self.file is not None):
            raise ValueError("roi.file names the box file of roi.provider 'file'; give both or neither")
        if (self.provider == "text") != (self.prompt is not None):
            raise ValueError("roi.prompt says what roi.provider 'text' looks for; give both or neither")
        if self.provider == "text" and self.model.endswith(".yaml"):
            raise ValueError(
                "roi.model must be a zero-shot detector for roi.provider 'text', such as google/owlv2-base-patch16-ensemble"
            )
        if self.provider == "full" and self.margin:
            raise ValueError("roi.margin has no effect on roi.provider 'full'; leave it out or choose another provider")
        if self.provider != "full" and self.context:
            raise ValueError("roi.context is for roi.provider 'full'; boxes of the others get theirs from roi.margin")
        if self.objects == "all" and self.provider in ("full", "annotation"):
            raise ValueError(f"roi.objects 'all' has no effect on roi.provider {self.provider!r}; leave it out")
        return self

    @property
    def border(self) -> float:
        """Share of the crop on every side that lies outside the object: no landmark is sought there."""
        return self.context or self.margin / (1 + 2 * self.margin)
