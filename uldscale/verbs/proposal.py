"""Settings for images that nobody has trained on yet, on the machine at hand: those that were best on faces and cats, as far as they carry
over, and in words where they may not.
"""

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache

from uldscale.data.listing import DataConfig
from uldscale.diffusion.backbone import Backbone, BackboneConfig
from uldscale.diffusion.folder import EMBEDDED
from uldscale.runtime.machine import Machine
from uldscale.verbs.survey import Survey

HUB_MODEL = "stable-diffusion-v1-5/stable-diffusion-v1-5"
"""What the paper's features come from."""
GPU_GIB = 7.0
"""Memory of a GPU on which that is worth while."""
FEW, MANY = 300, 10_000
"""Numbers of training images below and above which nobody has tried these settings."""
BOOTSTRAP_STEPS = 400
"""That were enough for any number of images."""


@dataclass(frozen=True)
class Wishes:
    """What the user has said; None: nothing."""

    model: str | None = None
    boxes: str | None = None
    landmarks: int | None = None


@dataclass(frozen=True)
class Proposal:
    """A job for some images."""

    data: DataConfig
    survey: Survey
    machine: Machine
    wishes: Wishes

    @property
    def name(self) -> str:
        """Of the run: after the folder or file of the images."""
        place = str(self.data.train).split("*")[0].rstrip("/")
        words = [word for word in re.split(r"[/\\]", place) if word.lower() not in ("images", "train", "training", "")]
        stem = os.path.splitext(words[-1])[0] if words else ""
        return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._") or "images"

    def settings(self) -> dict[str, Any]:
        """By name in the template of the job."""
        images, gpus = self.survey.images("train"), self.machine.gpus
        batch = self._batch(images)
        epochs = self._epochs(images)
        size = self._size
        return {
            "name": self.name,
            "data": self.data,
            "size": size,
            "roi": self._roi(),
            "model": self.model,
            "bfloat16": bool(gpus) and all(card.bfloat16 for card in gpus),
            "timesteps": [50] if images > MANY else [10, 100],
            "calls": 32 if gpus else 8,
            "channels": 32 if size <= 128 else 64,
            "shard": 64 if size <= 128 else 16,
            "batch": batch,
            "grid": 32 if size <= 128 else 64,
            "landmarks": self.wishes.landmarks or 10,
            "poses": min(3 if images < 1000 else 5, images),
            "bootstrap": _digits(min(25.0, max(epochs, BOOTSTRAP_STEPS * batch / images))),
            "epochs": _digits(epochs),
            "relabel": _digits(epochs / 3),
            "proxy": _digits(epochs * 0.45),
            "runtime": self._runtime(batch),
        }

    @property
    def model(self) -> str:
        """The diffusion model: as wished, else what a GPU makes possible and this machine has, else the one of the package."""
        if self.wishes.model:
            return BackboneConfig(model=os.path.expanduser(self.wishes.model)).anchored().model
        return HUB_MODEL if self._has_room and _is_cached(HUB_MODEL) else EMBEDDED

    def unsure(self) -> list[str]:
        """What a person should look at, most important first."""
        return [*self._about_images(), *self._about_model(), *self._about_landmarks()]

    def _about_images(self) -> Iterator[str]:
        images = self.survey.images("train")
        if self._roi()["provider"] == "full":
            doubts = self.survey.doubts()
            yield from doubts
            if doubts:
                yield "images should show one object each: cut it out, or say where it is (data.roi, or `uldscale init --boxes FILE`)"
            else:
                yield (
                    f"whether each image shows the object and little else: nothing of {len(self.survey.looks)} opened images speaks "
                    "against it, but only shapes, borders of one colour and annotations were looked at; look at some yourself"
                )
        yield from self.survey.oddities()
        if images < FEW:
            yield f"{images} training images are few: 500 is the least that was tried"
        if images > MANY:
            yield f"{images:,} training images are many: 3,000 is the most with which these settings were tried"
        if self.data.test is None:
            yield "test images: there are none, so methods are judged on the training images, by what needs no annotations"
        if self.survey.side < self._size:
            yield f"images have {self.survey.side} pixels a side (median of the shorter ones) and are blown up to {self._size}"

    def _about_model(self) -> Iterator[str]:
        if self.model == EMBEDDED and self._has_room:
            yield (
                f"the model: this GPU has room for {HUB_MODEL}, which is not on this machine yet; `uldscale init --model {HUB_MODEL}` "
                "fetches it and is better for most objects"
            )
        elif self.model == EMBEDDED:
            yield (
                "the model: tiny-ldm has seen generated faces only. For other objects make one of your images first, in half an hour to an "
                "hour (`uldscale pretrain`, jobs/turned-ldm.yaml), or name another with --model"
            )
        if self.machine.gpus:
            yield "time and memory on a GPU: nobody has measured them with these settings"

    def _about_landmarks(self) -> Iterator[str]:
        if self.wishes.landmarks is None:
            yield "the number of landmarks: 10 is a guess; `uldscale sweep JOB -k 6 -k 10 -k 16 -q 3` compares some"

    @property
    def _has_room(self) -> bool:
        return bool(self.machine.gpus) and self.machine.gpus[0].memory_gib >= GPU_GIB

    @cached_property
    def _size(self) -> int:
        """What the model was trained on; reading its shapes takes a while."""
        with torch.device("meta"):
            outline = Backbone.outline(BackboneConfig(model=self.model), weights=False)
        return outline.image_size

    def _roi(self) -> dict[str, Any]:
        if self.wishes.boxes:
            place = self.wishes.boxes
            whole = place if "://" in place else os.path.abspath(os.path.expanduser(place))
            return {"provider": "file", "file": whole, "margin": 0.2}
        if self.data.kind == "coco" and self.survey.boxed:
            return {"provider": "annotation", "margin": 0.2}
        return {"provider": "full", "context": 0.05}

    def _batch(self, images: int) -> int:
        fitting = 16 if not self.machine.gpus or self.machine.gpus[0].memory_gib < 20 else 32
        # Few images in large batches would be but a few steps.
        return max(2, min(fitting, images // 20))

    def _epochs(self, images: int) -> float:
        """6 for 500 images, 2.4 for 3,000, as was best on faces."""
        return min(6.0, max(2.0, 6.0 * math.sqrt(500 / images)))

    def _runtime(self, batch: int) -> dict[str, Any]:
        cpus, gpus = self.machine.cpus, len(self.machine.gpus)
        if gpus:
            share = max(1, min(8, cpus // gpus))
            role = {"count": gpus, "cpus": share, "threads": share, "gpus": 1}
            return {"extract": role, "train": role, "locate": role}
        # Two workers of one thread are 1.25 times as fast as one of two.
        workers = min(self._actors(cpus), 4, batch)
        threads = max(1, min(cpus, 8) // workers)
        return {
            "extract": {"count": self._actors(cpus)},
            "train": {"count": workers, "cpus": threads, "threads": threads},
        }

    def _actors(self, cpus: int) -> int:
        """One a core, as far as half of the memory takes them."""
        return max(1, min(cpus, int(self.machine.memory_gib / 2 / 2)))


def _digits(number: float) -> float:
    return float(f"{number:.2g}")


def _is_cached(model: str) -> bool:
    return isinstance(try_to_load_from_cache(model, "unet/config.json"), str)
