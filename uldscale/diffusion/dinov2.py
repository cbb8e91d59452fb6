"""DINOv2 as a backbone: patch tokens of a vision transformer that was trained without labels (Oquab et al. 2024).

A folder in the layout of transformers (config.json, model.safetensors), such as facebook/dinov2-base of the hub.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from uldscale.diffusion import architectures, taps
from uldscale.diffusion.architectures import TRANSFORMERS
from uldscale.diffusion.backbone import Backbone, BackboneConfig
from uldscale.diffusion.folder import UNREADABLE, display_name, fingerprint, first_line, locate, read_part, weight_files
from uldscale.diffusion.taps import Tap
from uldscale.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from transformers import Dinov2Model

MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet: red, green and blue in [0, 1], which the model takes normalised."""


@dataclass(frozen=True)
class Dinov2(Backbone):
    """Taps are the layers, encoder.layer.0 and on: their patch tokens after the last norm of the model, as its authors read them."""

    model: "Dinov2Model"

    @classmethod
    def _load(cls, config: BackboneConfig, device: str | torch.device) -> Self:
        from transformers import Dinov2Model

        _refuse_prompt(config)
        dtype = getattr(torch, config.dtype)
        if config.model in TRANSFORMERS:
            folder, model = "", _outline(TRANSFORMERS[config.model].config)
            architectures.fill(model, dtype, torch.Generator().manual_seed(0))
        else:
            folder = locate(config.model, config.revision)
            model = read_part(Dinov2Model, folder, "", dtype)
        model = model.requires_grad_(False).eval().to(device)
        return cls(display_name(config.model), _weight_hash(config, folder), model)

    @classmethod
    def _outline(cls, config: BackboneConfig, *, weights: bool) -> Self:
        _refuse_prompt(config)
        known = TRANSFORMERS.get(config.model)
        folder = "" if known else locate(config.model, config.revision, weights=weights)
        model = _outline(known.config if known else _configuration(folder))
        return cls(display_name(config.model), _weight_hash(config, folder) if weights else "", model.eval())

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.device
        return device

    @property
    def num_parameters(self) -> int:
        return int(self.model.num_parameters())

    @property
    def image_size(self) -> int:
        """Of the last stage of its training; other sizes have their position embeddings between those."""
        return int(self.model.config.image_size)

    @property
    def image_multiple(self) -> int:
        """The side of a patch."""
        return int(self.model.config.patch_size)

    @property
    def tap_names(self) -> tuple[str, ...]:
        return tuple(f"encoder.layer.{layer}" for layer in range(self.model.config.num_hidden_layers))

    def describe(self, names: Sequence[str], image_size: int) -> list[Tap]:
        return [Tap(name, self.model.config.hidden_size, image_size // self.image_multiple) for name in names]

    def widest_map(self, image_size: int) -> int:
        """Inside of a layer."""
        config = self.model.config
        return int(config.hidden_size * config.mlp_ratio * (image_size // self.image_multiple) ** 2)

    def latents(self, images: Tensor) -> Tensor:
        """Normalised pixels (B, 3, S, S)."""
        mean, spread = (images.new_tensor(values).reshape(-1, 1, 1) for values in (MEAN, SPREAD))
        return ((images + 1) / 2 - mean) / spread

    def maps(self, names: Sequence[str], latents: Tensor, timesteps: Tensor) -> dict[str, Tensor]:
        modules = {name: self.model.get_submodule(name) for name in names}
        tokens = taps.outputs(partial(self.model, latents), modules)
        return {name: self._map(found) for name, found in tokens.items()}

    def _map(self, tokens: Tensor) -> Tensor:
        """(B, 1 + H W, Cin) -> (B, Cin, H, W), without the token of the class."""
        patches: Tensor = self.model.layernorm(tokens)[:, 1:].transpose(1, 2)
        side = math.isqrt(patches.shape[2])
        return patches.reshape(*patches.shape[:2], side, side)

    def compile(self, names: Sequence[str]) -> None:
        # The parts of a layer and not the whole, which ends the call where it is a tap.
        for layer in self.model.encoder.layer:
            for part in (layer.attention, layer.mlp):
                part.compile(dynamic=False, recompile_limit=taps.SHAPES)


def _refuse_prompt(config: BackboneConfig) -> None:
    if config.prompt:
        raise ConfigError(
            f"extract.features.backbone.prompt: {config.prompt!r}, but {config.model} is DINOv2 and takes none; leave prompt out"
        )


def _weight_hash(config: BackboneConfig, folder: str) -> str:
    if config.model in TRANSFORMERS:
        return f"{config.model}-{architectures.VERSION}"
    return fingerprint(folder, weight_files(folder, ""), settings="config.json")


def _outline(config: Any) -> "Dinov2Model":
    """A model on the meta device, of a configuration or its arguments."""
    from transformers import Dinov2Config, Dinov2Model

    with torch.device("meta"):
        return Dinov2Model(config if isinstance(config, Dinov2Config) else Dinov2Config(**config))


def _configuration(folder: str) -> Any:
    from transformers import Dinov2Config

    try:
        return Dinov2Config.from_pretrained(folder, local_files_only=True)
    except UNREADABLE as error:
        raise ModelError(f"{folder}/config.json cannot be read: {first_line(error)}") from error
