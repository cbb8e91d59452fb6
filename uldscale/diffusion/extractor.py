"""Images to stored features: latents once per image, a call of the model per image and timestep, codec, an array per resolution.

Law: the same image gives the same bytes, whatever else is in the call and in whatever order. Measured on a CPU (oneDNN,
float32): the batch size and the number of threads change the last bits of a map (by 2e-6 of its maximum) and with them
3 of 100,000 int8 codes, by one; the other images of the batch and the place in it change nothing. So every call of the
model has one shape, `batch`, the last one padded; and whoever starts workers gives all of them as many threads.

Results stay on the device until the last call is made, so that a GPU never waits for the CPU in between.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from uldscale.config import Settings
from uldscale.diffusion import codec as codecs
from uldscale.diffusion import modes, noising, positions, taps
from uldscale.diffusion.backbone import Backbone, BackboneConfig, Mode
from uldscale.diffusion.codec import Arrays, CodecConfig
from uldscale.diffusion.modes import Caller, Part
from uldscale.diffusion.stable_diffusion import StableDiffusion
from uldscale.diffusion.taps import Tap
from uldscale.errors import ConfigError, ModelError

_NO_MEMORY = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
"""What torch says of memory that is too small where it has no OutOfMemoryError for it."""

MapFunction = Callable[[Tensor], Tensor]

Images = NDArray[np.uint8] | Tensor
"""(B, S, S, 3) RGB, in the memory of the host or of the device."""


class FeatureConfig(Settings):
    """What the features are. Everything here changes their bytes."""

    backbone: BackboneConfig = BackboneConfig()
    mode: Mode = "noise"
    """noise: forward noising at each timestep; clean: one call without noise, timesteps must be [0], and [261] with CleanDIFT;
    inversion: DDIM inversion in steps of 20, whose calls serve all timesteps: of -1 (the clean latents), 0, 20, ..., 960. CleanDIFT
    and DINOv2 know clean only."""
    timesteps: tuple[int, ...] = (50, 150, 300)
    """Steps of the diffusion, rising; the usual models have 0 (next to no noise) to 999 (noise only)."""
    taps: Literal["all"] | tuple[str, ...] = "all"
    """Blocks such as up_blocks.1.resnets.0, or encoder.layer.11 of DINOv2, or all."""
    noise: Literal["image", "shared"] = "image"
    """image: seeded by the id of the image; shared: one noise for all images."""
    seed: int = Field(0, ge=0)
    """Seed of the noise and of the pixels that the codec is fitted on."""
    batch: int = 8
    """Pairs of image and timestep per call of the model; 8 is enough for a CPU, a GPU wants 32 and more. Halved, with a word
    about it, when the memory of a device is too small."""
    compile: bool = False
    """Let torch.compile fuse the blocks of the model: takes minutes at the start of every actor."""
    codec: CodecConfig = CodecConfig()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.mode == "clean" and len(self.timesteps) > 1:
            got = list(self.timesteps)
            raise ValueError(f"mode clean is one call, so timesteps must be [0] ([261] with CleanDIFT), got {got}")
        least = -1 if self.mode == "inversion" else 0
        if not self.timesteps or self.timesteps[0] < least or list(self.timesteps) != sorted(set(self.timesteps)):
            raise ValueError(f"timesteps must be at least one, not negative and rising, got {list(self.timesteps)}")
        if self.batch < 1:
            raise ValueError(f"batch must be at least 1, got {self.batch}")
        return self


class Extractor:
    """Features of images from one backbone.

    taps: names of the taps, in the order of the model; batch: of each call of the model, less than asked for when the
    memory of the device was too small.
    """

    def __init__(self, backbone: Backbone, config: FeatureConfig) -> None:
        """Raises ConfigError for a tap, a timestep or a mode that the model does not have."""
        modes.require(backbone, config.mode, config.timesteps)
        self.backbone = backbone
        self.config = config
        self.taps = taps.select(backbone.tap_names, config.taps)
        self.batch = config.batch
        if config.compile:
            backbone.compile(self.taps)

    def tap_specs(self, image_size: int) -> list[Tap]:
        """Name, stored channels and side of every tap for images of `image_size` pixels. Raises ConfigError."""
        stored = [tap._replace(channels=self.config.codec.kept(tap.channels)) for tap in self._native(image_size)]
        first: dict[int, Tap] = {}
        for tap in stored:
            other = first.setdefault(tap.side, tap)
            if other.channels != tap.channels:
                raise ConfigError(
                    f"{tap.name} has {tap.channels} channels and {other.name} {other.channels}, but maps of one side are one array; choose "
                    f"other extract.features.taps, or extract.features.codec.channels of at most {min(tap.channels, other.channels)}"
                )
        return stored

    def raw(self, images: Images, ids: Sequence[str]) -> dict[str, Tensor]:
        """Features before the codec: (B, T, Cin, side, side) float32 by tap, on the device.

        ids: one per image, it seeds the noise (noising.view_id for the views of an image).
        """
        return self._each(images, ids, dict.fromkeys(self.taps, Tensor.float))

    def encode(self, images: Images, ids: Sequence[str], codec: Arrays) -> dict[str, NDArray[Any]]:
        """Features as they are stored, by resolution: "r08": (B, T, L, C, 8, 8), in the dtype of the codec.

        images, ids: as in `raw`; codec: from codec.fit_all. Raises KeyError when the codec lacks a tap.
        """
        if self.config.codec.kind == "none":
            encoded = self._each(images, ids, dict.fromkeys(self.taps, Tensor.half))
        else:
            encoded = self._each(images, ids, {name: self._encoder(codec, name) for name in self.taps})
        groups: dict[str, list[Tensor]] = {}
        for maps in encoded.values():
            groups.setdefault(f"r{maps.shape[-1]:02d}", []).append(maps)
        return _on_host({name: torch.stack(group, dim=2) for name, group in groups.items()})

    def sample(self, images: Images, ids: Sequence[str], pixels: int) -> dict[str, NDArray[np.float16]]:
        """Random pixels (B T pixels, Cin) of every tap, `pixels` of each map or all when it has fewer: what codecs are fitted on.

        images, ids: as in `raw`. Which pixels depends on the seed and on the first id.
        """
        random = noising.generator(self.config.seed, "codec", ids[0])
        picked = self._each(images, ids, dict.fromkeys(self.taps, partial(_pick, pixels, random)))
        return _on_host({name: found.flatten(0, 2) for name, found in picked.items()})

    def moments(self, images: Images, ids: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """Sums (COUNT, Cin) of positions.moments of every tap over the images, each turned by chance, and the timesteps.

        images, ids: as in `raw`; ids also seed the turns.
        """
        seed = self.config.seed
        turned = [positions.turned(torch.as_tensor(image), name, seed) for image, name in zip(images, ids, strict=True)]
        found = _on_host(self._each(torch.stack(turned), ids, dict.fromkeys(self.taps, positions.moments)))
        return {name: values.sum(axis=(0, 1), dtype=np.float64) for name, values in found.items()}

    def _encoder(self, arrays: Arrays, name: str) -> MapFunction:
        codec = codecs.unpack(arrays, name, self.backbone.device)
        return partial(codec.encode, dtype=self.config.codec.dtype)

    def _native(self, image_size: int) -> list[Tap]:
        if image_size < 1 or image_size % self.backbone.image_multiple:
            step = self.backbone.image_multiple
            near = max(1, round(image_size / step)) * step
            wanted = f"a multiple of {step} pixels, such as {near}"
            raise ConfigError(f"data.size: {image_size}, but {self.backbone.name} wants {wanted}")
        return self.backbone.describe(self.taps, image_size)

    def _each(self, images: Images, ids: Sequence[str], functions: Mapping[str, MapFunction]) -> dict[str, Tensor]:
        """Run the model, and a function per tap on full batches; results (B, T, ...) by tap, on the device."""
        self._check(images, ids)
        while True:
            try:
                return self._attempt(images, ids, functions)
            except RuntimeError as error:
                if self.batch == 1 or not _is_short_of_memory(error):
                    raise
                self.batch //= 2
            torch.cuda.empty_cache()

    @torch.inference_mode()
    def _attempt(self, images: Images, ids: Sequence[str], functions: Mapping[str, MapFunction]) -> dict[str, Tensor]:
        results: dict[str, Tensor] = {}
        finite: list[Tensor] = []
        total = len(ids) * len(self.config.timesteps)
        for part in self._parts(images, ids):
            count = len(range(*part.place.indices(total)))
            for name, function in functions.items():
                # The padding goes only now: the matrix products of the codec, too, shall always have the same shape.
                found = function(part.maps[name])[:count]
                finite.append(_is_finite(found if found.is_floating_point() else part.maps[name][:count]))
                if name not in results:
                    results[name] = found.new_empty(total, *found.shape[1:])
                results[name][part.place] = found
        self._require(finite, ids)
        return {name: found.reshape(len(ids), -1, *found.shape[1:]) for name, found in results.items()}

    def _require(self, finite: list[Tensor], ids: Sequence[str]) -> None:
        # One look at the end of all calls: a GPU would wait for each.
        if not torch.stack(finite).all():
            raise ModelError(
                f"{self.backbone.name} gives numbers that are not finite or too large for 16 bits, for one of {ids[0]!r} to "
                f"{ids[-1]!r}; check its weights, or set extract.features.backbone.dtype=float32"
            )

    def _parts(self, images: Images, ids: Sequence[str]) -> Iterator[Part]:
        batches = self._latents(images)
        if self.config.mode == "clean":
            return modes.clean(self.backbone, self.taps, batches)
        assert isinstance(self.backbone, StableDiffusion)  # As modes.require saw.
        caller = Caller(self.backbone, self.taps, self.config.timesteps, self.batch)
        latents = torch.cat(list(batches))[: len(images)]
        if self.config.mode == "inversion":
            return modes.along_inversion(caller, latents)
        return modes.at_timesteps(caller, latents, partial(self._noise, tuple(latents.shape[1:]), ids))

    def _latents(self, images: Images) -> Iterator[Tensor]:
        """Of one batch after the other; behind those of the last images are those of nothing."""
        for start in range(0, len(images), self.batch):
            part = modes.sent(torch.as_tensor(images[start : start + self.batch]), self.backbone.device)
            pixels = part.permute(0, 3, 1, 2).float() / 127.5 - 1
            with modes.same_kernels():
                yield self.backbone.latents(modes.padded(pixels, self.batch))

    def _noise(self, shape: tuple[int, ...], ids: Sequence[str], row: int, timestep: int) -> Tensor:
        own = ids[row] if self.config.noise == "image" else None
        return noising.noise(shape, seed=self.config.seed, timestep=timestep, name=own)

    def _check(self, images: Images, ids: Sequence[str]) -> None:
        if (
            images.dtype not in (np.uint8, torch.uint8)
            or images.ndim != 4
            or images.shape[1] != images.shape[2]
            or images.shape[3] != 3
        ):
            raise ValueError(f"images are {images.dtype} {tuple(images.shape)}, wanted uint8 (B, S, S, 3)")
        if len(images) != len(ids) or not ids:
            raise ValueError(f"{len(images)} images and {len(ids)} ids, wanted as many, and at least one")
        self._native(images.shape[1])


def _is_short_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _NO_MEMORY)


def _is_finite(values: Tensor) -> Tensor:
    # What is not finite stays so in a sum, which is one pass without memory, and without a cast 30 times as fast on a CPU.
    return values.sum(dtype=torch.float32 if values.dtype == torch.float16 else None).isfinite()


def _on_host(values: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    """Arrays of tensors; they leave a GPU side by side."""
    if all(value.device.type == "cpu" for value in values.values()):
        return {name: value.numpy() for name, value in values.items()}
    arrived = {name: torch.empty(value.shape, dtype=value.dtype, pin_memory=True) for name, value in values.items()}
    for name, value in values.items():
        arrived[name].copy_(value, non_blocking=True)
    torch.cuda.synchronize()
    return {name: value.numpy() for name, value in arrived.items()}


def _pick(count: int, random: np.random.Generator, maps: Tensor) -> Tensor:
    """(n, Cin, H, W) -> (n, count, Cin) float16: other random cells of every map, all cells when there are fewer."""
    cells = maps.flatten(2)
    order = torch.from_numpy(random.random((len(cells), cells.shape[2])).argsort(axis=1)[:, :count]).to(maps.device)
    return cells.gather(2, order[:, None].expand(-1, cells.shape[1], -1)).transpose(1, 2).half()
