"""Images to stored features: VAE once per image, UNet once per image and timestep, codec, an array per resolution.

Law: the same image gives the same bytes, whatever else is in the call and in whatever order. Measured on a CPU (oneDNN,
float32): the batch size and the number of threads change the last bits of a map (by 2e-6 of its maximum) and with them
3 of 100,000 int8 codes, by one; the other images of the batch and the place in it change nothing. So every call of the
model has one shape, `batch`, the last one padded; and whoever starts workers gives all of them as many threads.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from itertools import product
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import model_validator
from torch import Tensor

from uldscale.config import Settings
from uldscale.diffusion import codec as codecs
from uldscale.diffusion import noising, taps
from uldscale.diffusion.backbone import Backbone, BackboneConfig
from uldscale.diffusion.codec import Arrays, CodecConfig, Quality
from uldscale.diffusion.taps import Tap
from uldscale.errors import ConfigError

SAMPLED_PIXELS = 16_384
"""Pixels per tap that the codec is fitted on: ten times the 1280 channels of the widest taps of SD."""


MapFunction = Callable[[Tensor], Tensor]


class FeatureConfig(Settings):
    """What the features are. Everything here changes their bytes."""

    backbone: BackboneConfig = BackboneConfig()
    mode: Literal["noise", "clean"] = "noise"
    """noise: forward noising at each timestep; clean: one call with the clean latents, timesteps must be [0]."""
    timesteps: tuple[int, ...] = (50, 150, 300)
    """Steps of the diffusion, rising; the usual models have 0 (next to no noise) to 999 (noise only)."""
    taps: Literal["all"] | tuple[str, ...] = "all"
    """Decoder blocks such as up_blocks.1.resnets.0, or all."""
    noise: Literal["image", "shared"] = "image"
    """image: seeded by the id of the image; shared: one noise for all images."""
    seed: int = 0
    """Seed of the noise and of the pixels that the codec is fitted on."""
    batch: int = 8
    """Pairs of image and timestep per call of the model; 8 is enough for a CPU, a GPU wants 32 and more."""
    codec: CodecConfig = CodecConfig()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.mode == "clean" and self.timesteps != (0,):
            raise ValueError(f"mode clean has no noise, so timesteps must be [0], got {list(self.timesteps)}")
        if not self.timesteps or self.timesteps[0] < 0 or list(self.timesteps) != sorted(set(self.timesteps)):
            raise ValueError(f"timesteps must be at least one, not negative and rising, got {list(self.timesteps)}")
        if self.batch < 1:
            raise ValueError(f"batch must be at least 1, got {self.batch}")
        return self


class Extractor:
    """Features of images from one backbone. `taps` are the names of the taps, in the order of the decoder."""

    def __init__(self, backbone: Backbone, config: FeatureConfig) -> None:
        """Raises ConfigError for a tap or a timestep that the model does not have."""
        last = len(backbone.alphas_cumprod) - 1
        if config.timesteps[-1] > last:
            raise ConfigError(f"features.timesteps: {config.timesteps[-1]}, but {backbone.name} has 0 to {last}")
        self.backbone = backbone
        self.config = config
        self.taps = taps.select(backbone.unet, config.taps)

    def tap_specs(self, image_size: int) -> list[Tap]:
        """Name, stored channels and side of every tap for images of `image_size` pixels. Raises ConfigError."""
        native = self._native(image_size)
        if self.config.codec.kind == "none":
            return native
        return [tap._replace(channels=min(tap.channels, self.config.codec.channels)) for tap in native]

    def raw(self, images: NDArray[np.uint8], ids: Sequence[str]) -> dict[str, Tensor]:
        """Features before the codec: (B, T, Cin, side, side) float32 by tap.

        images: (B, S, S, 3) RGB; ids: one per image, it seeds the noise (noising.view_id for the views of an image).
        """
        return self._each(images, ids, dict.fromkeys(self.taps, _identity))

    def encode(self, images: NDArray[np.uint8], ids: Sequence[str], codec: Arrays) -> dict[str, NDArray[Any]]:
        """Features as they are stored, by resolution: "r08": (B, T, L, C, 8, 8), int8 or (codec none) float16.

        images, ids: as in `raw`; codec: from `fit_codec`. Raises KeyError when the codec lacks a tap.
        """
        if self.config.codec.kind == "none":
            encoded = self._each(images, ids, dict.fromkeys(self.taps, Tensor.half))
        else:
            encoded = self._each(images, ids, {name: self._codec(codec, name).encode for name in self.taps})
        groups: dict[str, list[Tensor]] = {}
        for maps in encoded.values():
            groups.setdefault(f"r{maps.shape[-1]:02d}", []).append(maps)
        return {name: torch.stack(group, dim=2).numpy() for name, group in groups.items()}

    def fit_codec(self, images: NDArray[np.uint8], ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Flat arrays of the codecs of all taps, fitted on these images; empty for codec none.

        images, ids: as in `raw`. The same images in the same order give the same codec.
        """
        if self.config.codec.kind == "none":
            return {}
        samples = self._sample(images, ids)
        return codecs.pack({name: codecs.fit(pixels, self.config.codec.channels) for name, pixels in samples.items()})

    def quality(self, images: NDArray[np.uint8], ids: Sequence[str], codec: Arrays) -> dict[str, Quality]:
        """What the codec keeps of each tap on images that it was not fitted on; empty for codec none."""
        if self.config.codec.kind == "none":
            return {}
        samples = self._sample(images, ids)
        return {name: codecs.quality(codecs.unpack(codec, name), pixels) for name, pixels in samples.items()}

    def _codec(self, arrays: Arrays, name: str) -> codecs.TapCodec:
        return codecs.unpack(arrays, name, self.backbone.device)

    def _native(self, image_size: int) -> list[Tap]:
        if image_size < 1 or image_size % self.backbone.image_multiple:
            wanted = f"a multiple of {self.backbone.image_multiple} pixels"
            raise ConfigError(f"data.size: {image_size}, but {self.backbone.name} wants {wanted}")
        return taps.describe(self.backbone.unet, self.taps, image_size // self.backbone.pixels_per_cell)

    def _sample(self, images: NDArray[np.uint8], ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """About SAMPLED_PIXELS pixels (n, Cin) of every tap, as many of each map."""
        per_map = -(-SAMPLED_PIXELS // (len(images) * len(self.config.timesteps)))
        generator = torch.Generator().manual_seed(self.config.seed)
        picked = self._each(images, ids, dict.fromkeys(self.taps, partial(_pick, per_map, generator)))
        return {name: pixels.flatten(0, 2).numpy() for name, pixels in picked.items()}

    def _each(
        self, images: NDArray[np.uint8], ids: Sequence[str], functions: Mapping[str, MapFunction]
    ) -> dict[str, Tensor]:
        """Run the model and a function per tap on full batches; results (B, T, ...) by tap, on the CPU."""
        self._check(images, ids)
        parts: dict[str, list[Tensor]] = {name: [] for name in functions}
        latents = self._latents(images)
        pairs = list(product(range(len(ids)), self.config.timesteps))
        for start in range(0, len(pairs), self.config.batch):
            part = pairs[start : start + self.config.batch]
            for name, maps in self._features(latents, ids, part).items():
                # The padding goes only now: the matrix products of the codec, too, shall always have the same shape.
                parts[name].append(functions[name](maps)[: len(part)].cpu())
        return {name: _by_image(torch.cat(results), len(ids)) for name, results in parts.items()}

    def _check(self, images: NDArray[np.uint8], ids: Sequence[str]) -> None:
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != images.shape[2] or images.shape[3] != 3:
            raise ValueError(f"images are {images.dtype} {images.shape}, wanted uint8 (B, S, S, 3)")
        if len(images) != len(ids) or not ids:
            raise ValueError(f"{len(images)} images and {len(ids)} ids, wanted as many, and at least one")
        self._native(images.shape[1])

    @torch.inference_mode()
    def _latents(self, images: NDArray[np.uint8]) -> Tensor:
        found = []
        for start in range(0, len(images), self.config.batch):
            part = torch.from_numpy(images[start : start + self.config.batch]).to(self.backbone.device)
            pixels = part.permute(0, 3, 1, 2).float() / 127.5 - 1
            with _same_kernels():
                found.append(self.backbone.latents(self._padded(pixels))[: len(part)])
        return torch.cat(found)

    @torch.inference_mode()
    def _features(self, latents: Tensor, ids: Sequence[str], pairs: Sequence[tuple[int, int]]) -> dict[str, Tensor]:
        """Maps (batch, Cin, side, side) by tap of (image, timestep) pairs; behind the last pair comes padding."""
        rows, timesteps = (torch.tensor(values, device=latents.device) for values in zip(*pairs, strict=True))
        inputs = latents[rows]
        if self.config.mode == "noise":
            noise = torch.stack([self._noise(latents, ids[row], timestep) for row, timestep in pairs])
            inputs = noising.add_noise(inputs, noise.to(latents.device), timesteps, self.backbone.alphas_cumprod)
        call = self._padded(inputs).to(self.backbone.dtype), self._padded(timesteps), self.backbone.prompt_embeds
        with _same_kernels():
            found = taps.read(self.backbone.unet, self.taps, *call)
        return {name: maps.float() for name, maps in found.items()}

    def _noise(self, latents: Tensor, name: str, timestep: int) -> Tensor:
        own = name if self.config.noise == "image" else None
        return noising.noise(tuple(latents.shape[1:]), seed=self.config.seed, timestep=timestep, name=own)

    def _padded(self, values: Tensor) -> Tensor:
        return torch.cat([values, values.new_zeros(self.config.batch - len(values), *values.shape[1:])])


def _same_kernels() -> AbstractContextManager[None]:
    """Let cuDNN choose by shape, not by a race of kernels on the machine at hand."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=True)


def _by_image(results: Tensor, images: int) -> Tensor:
    return results.reshape(images, -1, *results.shape[1:])


def _identity(maps: Tensor) -> Tensor:
    return maps


def _pick(count: int, generator: torch.Generator, maps: Tensor) -> Tensor:
    """(n, Cin, H, W) -> (n, count, Cin): other random cells of every map, all cells when there are fewer."""
    cells = maps.flatten(2)
    order = torch.rand(len(cells), cells.shape[2], generator=generator).argsort(dim=1)[:, :count].to(maps.device)
    return cells.gather(2, order[:, None].expand(-1, cells.shape[1], -1)).transpose(1, 2)
