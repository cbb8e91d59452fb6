"""From the latents of an image to what the UNet sees at each timestep: forward noising, or DDIM inversion.

Law: the noise of an image depends on its id, never on the worker, the batch or the order. Noise is drawn anew for every
timestep. The maps of one image at several timesteps are mixed later, and errors that come from independent noise average
out in the mix; one noise for all timesteps would push all of them the same way.
"""

import hashlib
import json
from typing import Any

import numpy as np
import torch
from torch import Tensor

INVERSION_STEPS = 50
"""Calls of the UNet from the clean latents to noise (Luo et al. 2023, Diffusion Hyperfeatures)."""


def view_id(image_id: str, view: int) -> str:
    """The id that seeds the noise of one view of an image; view 0 is the image itself and keeps its id."""
    return image_id if view == 0 else f"{image_id}#{view}"


def generator(*seeds: Any) -> np.random.Generator:
    """Random numbers that depend on these JSON values alone, on every machine."""
    # Philox of NumPy, because the normal draws of torch take different paths on different instruction sets.
    digest = hashlib.sha256(json.dumps(seeds).encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


def noise(shape: tuple[int, ...], *, seed: int, timestep: int, name: str | None) -> Tensor:
    """Standard normal noise, float32 on the CPU.

    `name` is the id of the image or view; None stands for the one noise that all images share.
    """
    return torch.from_numpy(generator(seed, timestep, name).standard_normal(shape, dtype=np.float32))


def add_noise(latents: Tensor, noise: Tensor, timesteps: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """z_t = sqrt(abar_t) z + sqrt(1 - abar_t) eps (Ho et al. 2020, Eq. 4).

    latents, noise: (B, Z, H, W); timesteps: (B,) integers; alphas_cumprod: (training steps,).
    """
    alphas = alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    return alphas.sqrt() * latents + (1 - alphas).sqrt() * noise


def inversion_timesteps(training_steps: int) -> tuple[int, ...]:
    """The timestep of every call of the UNet in an inversion, first call first; -1 stands for the clean latents.

    For 1000 training steps: -1, 0, 20, ..., 960.
    """
    stride = training_steps // INVERSION_STEPS
    return (-1, *range(0, stride * (INVERSION_STEPS - 1), stride))


def invert(latents: Tensor, said: Tensor, at: int, to: int, alphas_cumprod: Tensor, prediction: str) -> Tensor:
    """One step of DDIM inversion, from timestep `at` to the next one `to`, without randomness (Song et al. 2021, Eq. 12).

    latents: (B, Z, H, W) at `at`; said: what the UNet predicted for them; prediction: epsilon or v_prediction.
    """
    here, there = _alpha(alphas_cumprod, at), _alpha(alphas_cumprod, to)
    if prediction == "v_prediction":
        clean, eps = here.sqrt() * latents - (1 - here).sqrt() * said, here.sqrt() * said + (1 - here).sqrt() * latents
    else:
        clean, eps = (latents - (1 - here).sqrt() * said) / here.sqrt(), said
    return there.sqrt() * clean + (1 - there).sqrt() * eps


def _alpha(alphas_cumprod: Tensor, timestep: int) -> Tensor:
    return alphas_cumprod.new_ones(()) if timestep < 0 else alphas_cumprod[timestep]
