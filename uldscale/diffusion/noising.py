"""Forward noising, deterministic: the noise of an image depends on its id, never on the worker, the batch or the order.

Noise is drawn anew for every timestep. The maps of one image at several timesteps are mixed later, and errors that come
from independent noise average out in the mix; one noise for all timesteps would push all of them the same way.
"""

import hashlib
import json

import numpy as np
import torch
from torch import Tensor


def view_id(image_id: str, view: int) -> str:
    """The id that seeds the noise of one view of an image; view 0 is the image itself and keeps its id."""
    return image_id if view == 0 else f"{image_id}#{view}"


def noise(shape: tuple[int, ...], *, seed: int, timestep: int, name: str | None) -> Tensor:
    """Standard normal noise, float32 on the CPU.

    `name` is the id of the image or view; None stands for the one noise that all images share.
    """
    # Philox of NumPy, because the normal draws of torch take different paths on different instruction sets.
    digest = hashlib.sha256(json.dumps([seed, timestep, name]).encode()).digest()
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
    return torch.from_numpy(generator.standard_normal(shape, dtype=np.float32))


def add_noise(latents: Tensor, noise: Tensor, timesteps: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """z_t = sqrt(abar_t) z + sqrt(1 - abar_t) eps (Ho et al. 2020, Eq. 4).

    latents, noise: (B, Z, H, W); timesteps: (B,) integers; alphas_cumprod: (training steps,).
    """
    alphas = alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    return alphas.sqrt() * latents + (1 - alphas).sqrt() * noise
