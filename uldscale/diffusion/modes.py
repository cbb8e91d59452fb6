"""Which calls of a model give the features of some images: one, one for each timestep, or one walk through all of them.

Law: every call has the same shape, `batch`, the last one padded (extractor.py says why).
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from itertools import pairwise, product
from typing import NamedTuple

import torch
from torch import Tensor

from uldscale.diffusion import noising, taps
from uldscale.diffusion.backbone import Backbone, Mode
from uldscale.diffusion.stable_diffusion import StableDiffusion
from uldscale.errors import ConfigError


class Caller(NamedTuple):
    """A diffusion model, and what to ask of it."""

    backbone: StableDiffusion
    taps: tuple[str, ...]
    timesteps: tuple[int, ...]
    batch: int


class Part(NamedTuple):
    """What one call of the model gave.

    place: where the maps belong in the sequence of all (image, timestep), timestep fastest; n <= batch of it are there.
    maps: (batch, Cin, side, side) by tap; what lies behind the n-th map is padding.
    """

    place: slice
    maps: dict[str, Tensor]


def require(backbone: Backbone, mode: Mode, timesteps: tuple[int, ...]) -> None:
    """Raises ConfigError for a mode or a timestep that a model does not have."""
    clean = [backbone.clean_timestep]
    if mode not in backbone.modes:
        wanted = f"set extract.features.mode=clean and extract.features.timesteps={clean}"
        raise ConfigError(f"features.mode: {mode}, but {backbone.name} knows no noise; {wanted}")
    if mode == "clean" and list(timesteps) != clean:
        wanted = f"wants {clean} without noise; set extract.features.timesteps={clean}"
        raise ConfigError(f"features.timesteps: {timesteps[0]}, but {backbone.name} {wanted}")
    if isinstance(backbone, StableDiffusion) and mode != "clean":
        _require_steps(backbone, mode, timesteps)


def _require_steps(backbone: StableDiffusion, mode: Mode, timesteps: tuple[int, ...]) -> None:
    steps = len(backbone.alphas_cumprod)
    if mode == "inversion":
        _require_invertible(backbone, steps)
        walk = noising.inversion_timesteps(steps)
        wanted = f"wanted some of -1, 0, {walk[2]}, ..., {walk[-1]}"
        wrong = [timestep for timestep in timesteps if timestep not in walk]
    else:
        wanted = f"{backbone.name} has 0 to {steps - 1}"
        wrong = [timestep for timestep in timesteps if timestep >= steps]
    if wrong:
        raise ConfigError(f"features.timesteps: {wrong[0]}, but {wanted}")


def _require_invertible(backbone: StableDiffusion, steps: int) -> None:
    if steps < noising.INVERSION_STEPS:
        raise ConfigError(
            f"features.mode: inversion takes {noising.INVERSION_STEPS} steps, but {backbone.name} has {steps}; use mode noise"
        )
    if backbone.prediction_type not in ("epsilon", "v_prediction"):
        raise ConfigError(
            f"features.mode: inversion knows no prediction type {backbone.prediction_type!r}; use mode noise"
        )


def clean(backbone: Backbone, names: tuple[str, ...], latents: Iterable[Tensor]) -> Iterator[Part]:
    """One call for each batch of images; latents: (batch, Z, H, W) float32 of one batch after the other."""
    start = 0
    for inputs in latents:
        with same_kernels():
            maps = backbone.maps(names, inputs, _all_at(backbone.clean_timestep, inputs))
        yield Part(slice(start, start + len(inputs)), maps)
        start += len(inputs)


def at_timesteps(caller: Caller, latents: Tensor, noise: Callable[[int, int], Tensor]) -> Iterator[Part]:
    """Independent calls, all images and timesteps in one sequence of batches.

    latents: (B, Z, H, W) float32; noise: that of an image at a timestep, (Z, H, W) on the CPU.
    """
    pairs = list(product(range(len(latents)), caller.timesteps))
    repeated = latents.repeat_interleave(len(caller.timesteps), dim=0)
    for start in range(0, len(pairs), caller.batch):
        part = pairs[start : start + caller.batch]
        timesteps = sent(torch.tensor([timestep for _, timestep in part]), latents.device)
        drawn = sent(torch.stack([noise(*pair) for pair in part]), latents.device)
        images = repeated[start : start + caller.batch]
        inputs = noising.add_noise(images, drawn, timesteps, caller.backbone.alphas_cumprod)
        with same_kernels():
            maps = caller.backbone.maps(caller.taps, padded(inputs, caller.batch), padded(timesteps, caller.batch))
        yield Part(slice(start, start + len(part)), maps)


def along_inversion(caller: Caller, latents: Tensor) -> Iterator[Part]:
    """DDIM inversion of batches of images, no further than the last timestep; each call that is wanted gives its maps.

    latents: (B, Z, H, W) float32.
    """
    walk = noising.inversion_timesteps(len(caller.backbone.alphas_cumprod))
    walk = walk[: walk.index(caller.timesteps[-1]) + 1]
    for start in range(0, len(latents), caller.batch):
        rows = range(start, min(start + caller.batch, len(latents)))
        at = padded(latents[rows.start : rows.stop], caller.batch)
        for here, there in pairwise(walk):
            maps, at = _walk(caller, at, here, there)
            if here in caller.timesteps:
                yield Part(_places(caller, rows, here), maps)
        with same_kernels():
            maps = caller.backbone.maps(caller.taps, at, _all_at(walk[-1], at))
        yield Part(_places(caller, rows, walk[-1]), maps)


def _places(caller: Caller, rows: range, timestep: int) -> slice:
    count, step = len(caller.timesteps), caller.timesteps.index(timestep)
    return slice(rows.start * count + step, rows.stop * count, count)


def _walk(caller: Caller, latents: Tensor, here: int, there: int) -> tuple[dict[str, Tensor], Tensor]:
    """The maps at a timestep, and the latents at the next one."""
    with same_kernels():
        call = caller.backbone.call(latents, _all_at(here, latents))
        maps, said = taps.read_whole(caller.backbone.unet, caller.taps, *call)
    known = caller.backbone.alphas_cumprod, caller.backbone.prediction_type
    return maps, noising.invert(latents, said.float(), here, there, *known)


def _all_at(timestep: int, latents: Tensor) -> Tensor:
    return torch.full((len(latents),), timestep, device=latents.device)


def padded(values: Tensor, batch: int) -> Tensor:
    """(n, ...) with zeros behind it: (batch, ...)."""
    return torch.cat([values, values.new_zeros(batch - len(values), *values.shape[1:])])


def sent(values: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on a device, on its way while the CPU goes on."""
    if device.type != "cuda" or values.is_cuda:
        return values
    return values.pin_memory().to(device, non_blocking=True)


def same_kernels() -> AbstractContextManager[None]:
    """Let cuDNN choose by shape, not by a race of kernels on the machine at hand."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=True)
