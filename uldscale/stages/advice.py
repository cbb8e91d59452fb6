"""What would make a planned job cheaper, and what of it does not fit."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

from uldscale.diffusion.backbone import Backbone
from uldscale.stages.devices import CPU, gpu_of
from uldscale.stages.needs import Scale, gpu_needs
from uldscale.training.symptoms import of_schedule

FASTER = 1.9
"""So many times faster arithmetic is worth a word."""
USUAL_MAPS = 6
"""Views times timesteps of the jobs for real images."""
SHORT_EPOCHS = 0.5
"""A stage that is shorter has not seen most of the images."""


@dataclass(frozen=True)
class Advisor:
    """Looks at a job on a GPU, or on the CPU at hand."""

    scale: Scale
    outline: Backbone
    store: str
    """Where the features will be."""
    gpu: str

    def all(self) -> list[str]:
        """Sentences, of which each names the setting to change."""
        return [
            *self._disk(),
            *self._precision(),
            *self._memory(),
            *self._views(),
            *self._length(),
        ]

    def _disk(self) -> Iterator[str]:
        size = self.scale.spec.stored_bytes
        free = _free(self.store)
        if free is not None and size > free:
            yield (
                f"the store does not fit: it has {size / 1e9:,.1f} GB, and the disk of {self.store} has {free / 1e9:,.1f} GB free; lower "
                "extract.features.codec.channels, timesteps or views, limit the images (data.limit), or set extract.store.root"
            )

    def _precision(self) -> Iterator[str]:
        if self.gpu == CPU:
            return
        card = gpu_of(self.gpu)
        faster = card.bfloat16 / card.float32
        if faster < FASTER:
            return
        if self.scale.extract.features.backbone.dtype == "float32":
            yield f"extract.features.backbone.dtype=bfloat16 makes extraction up to {faster:.0f} times as fast on {self.gpu}"
        if not self.scale.train.engine.bf16:
            yield f"train.engine.bf16=true makes training up to {faster:.0f} times as fast on {self.gpu}"

    def _memory(self) -> Iterator[str]:
        if self.gpu == CPU:
            return
        there = gpu_of(self.gpu).memory_gib
        remedy = {
            "extract": "extract.features.batch (it halves itself where memory is short)",
            "train": "train.batch, or raise runtime.train.count",
        }
        for role, wanted in gpu_needs(self.scale, self.outline).items():
            if wanted > there:
                yield f"{role} may not fit: about {wanted:.0f} GiB on a {self.gpu} of {there} GiB; lower {remedy[role]}"

    def _views(self) -> Iterator[str]:
        maps = self.scale.spec.num_views * len(self.scale.spec.timesteps)
        if maps > USUAL_MAPS:
            yield (
                f"time and bytes of extraction grow with views times timesteps, here {maps}; two views and one timestep (the demo's) "
                f"would take {2 / maps:.0%} of them"
            )

    def _length(self) -> Iterator[str]:
        train, images = self.scale.train, self.scale.images
        yield from (str(symptom) for symptom in of_schedule(train, images) if symptom.name == "many_epochs")
        longest = max(train.of(stage).steps for stage in train.stages) * train.batch / images
        if longest < SHORT_EPOCHS:
            yield (
                f"no stage sees more than {longest:.1%} of the images; lengths in epochs (train.*.epochs) grow with them, or limit "
                "the images (data.limit)"
            )


def _free(place: str) -> int | None:
    """Bytes free where a local folder is or will be; None in a bucket."""
    if "://" in place:
        return None
    folder = os.path.abspath(os.path.expanduser(place))
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return shutil.disk_usage(folder).free
