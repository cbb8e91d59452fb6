"""The frozen model that the features come from: its settings, and what the extractor needs of it, whatever its kind."""

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from uldscale.config import Settings
from uldscale.diffusion.architectures import RANDOM, Kind
from uldscale.diffusion.folder import EMBEDDED, kind_of, locate
from uldscale.diffusion.taps import Tap
from uldscale.errors import ConfigError

Mode = Literal["noise", "clean", "inversion"]


class BackboneConfig(Settings):
    """Which model the features come from."""

    model: str = EMBEDDED
    """tiny-ldm (shipped with the package), a folder or a hub id such as owner/name: Stable Diffusion in diffusers layout or DINOv2 in
    that of transformers; or random-sd15, random-cleandift-sd21, random-dinov2-base and others: random weights in the shape of a public
    model, to measure what it costs."""
    kind: Kind | None = None
    """null: as the folder says. CleanDIFT has to be told, since its folder looks like that of the model it was made from."""
    revision: str | None = None
    """Commit, tag or branch of a hub model; pin a commit."""
    prompt: str = ""
    """Text condition of a diffusion model, embedded once; models with random weights have a random one."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the model. bfloat16 pays off on GPUs of compute capability 8 and up, and by half on CPUs with
    avx512_bf16 or amx_bf16; other chips run it, too, but slower than float32."""

    def anchored(self) -> Self:
        """The same, with a local folder named from the root of the file system: found from any folder."""
        named = self.model == EMBEDDED or self.model in RANDOM
        return self if named or not os.path.isdir(self.model) else self.updated(model=os.path.abspath(self.model))


@dataclass(frozen=True)
class Backbone(ABC):
    """A loaded model, in evaluation mode and without gradients.

    name: for people; weight_hash: sha256 of all weights that the features depend on, and of what is done with them.
    """

    name: str
    weight_hash: str

    modes: ClassVar[tuple[Mode, ...]] = ("clean",)
    """Ways to call the model: without noise, and what it knows beside."""
    clean_timestep: ClassVar[int] = 0
    """The timestep of a call without noise; 0 for a model that knows none."""

    @staticmethod
    def load(config: BackboneConfig, device: str | torch.device = "cpu") -> "Backbone":
        """Load from a folder or the hub, or fill with random numbers; only safetensors are read. Raises ModelError, ConfigError."""
        return _implementation(config)._load(config, device)

    @staticmethod
    def outline(config: BackboneConfig, *, weights: bool = True) -> "Backbone":
        """The same model on the meta device: shapes without numbers, for whoever needs no features. Raises ModelError, ConfigError.

        Without `weights` their hash is "", and those of a hub model are not fetched.
        """
        return _implementation(config)._outline(config, weights=weights)

    @classmethod
    @abstractmethod
    def _load(cls, config: BackboneConfig, device: str | torch.device) -> "Backbone":
        """See `load`."""

    @classmethod
    @abstractmethod
    def _outline(cls, config: BackboneConfig, *, weights: bool) -> "Backbone":
        """See `outline`."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the weights are."""

    @property
    @abstractmethod
    def num_parameters(self) -> int:
        """Of all parts."""

    @property
    @abstractmethod
    def image_size(self) -> int:
        """Side of the images that it was trained on."""

    @property
    @abstractmethod
    def image_multiple(self) -> int:
        """Sides of images must be a multiple of this."""

    @property
    @abstractmethod
    def tap_names(self) -> tuple[str, ...]:
        """All taps, in the order of the model."""

    @abstractmethod
    def describe(self, names: Sequence[str], image_size: int) -> list[Tap]:
        """Channels and side of taps for square images, from shapes alone."""

    @abstractmethod
    def widest_map(self, image_size: int) -> int:
        """Numbers of the largest map that an image of this size becomes on its way."""

    @abstractmethod
    def latents(self, images: Tensor) -> Tensor:
        """What a call takes of images (B, 3, S, S) in [-1, 1], computed once for all timesteps: (B, Z, H, W), float32."""

    @abstractmethod
    def maps(self, names: Sequence[str], latents: Tensor, timesteps: Tensor) -> dict[str, Tensor]:
        """One call of the model, cut off after the last of the taps: (B, Cin, side, side) by name, for latents and timesteps (B,)."""

    @abstractmethod
    def compile(self, names: Sequence[str]) -> None:
        """Let torch.compile fuse what no tap of these names ends."""


def _implementation(config: BackboneConfig) -> type[Backbone]:
    # They derive from the class above.
    from uldscale.diffusion.cleandift import CleanDift
    from uldscale.diffusion.dinov2 import Dinov2
    from uldscale.diffusion.stable_diffusion import StableDiffusion

    kinds: dict[Kind, type[Backbone]] = {
        "stable-diffusion": StableDiffusion,
        "cleandift": CleanDift,
        "dinov2": Dinov2,
    }
    return kinds[_kind(config)]


def _kind(config: BackboneConfig) -> Kind:
    known = RANDOM.get(config.model)
    kind = known.kind if known else kind_of(locate(config.model, config.revision, weights=False))
    if config.kind is None or config.kind == kind:
        return kind
    # The folder of CleanDIFT looks like that of Stable Diffusion.
    if known or (config.kind, kind) != ("cleandift", "stable-diffusion"):
        raise ConfigError(
            f"extract.features.backbone.kind: {config.kind}, but {config.model} is of kind {kind}; leave kind out"
        )
    return config.kind
