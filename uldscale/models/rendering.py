"""Pixels of the views of an image, on whatever device the image is.

Law: on one kind of device a view has the same bytes, whatever is computed beside it; kinds differ in last bits, and in their noise.

V views, S side of the crop in pixels.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from uldscale.models.views import ViewConfig, random_of

_GREY = (0.299, 0.587, 0.114)  # luma weights of ITU-R BT.601


def render_views(image: Tensor, matrices: NDArray[np.float32], config: ViewConfig, image_id: str, seed: int) -> Tensor:
    """(V, S, S, 3) views of a uint8 RGB image (S, S, 3) under matrices (V, 3, 3), borders reflected; view 0 is the image."""
    if len(matrices) == 1:
        return image[None]
    views = _warp(image.float(), np.linalg.inv(matrices[1:].astype(np.float64)))
    for view in range(config.relit_from, len(matrices)):
        views[view - 1] = _relight(views[view - 1], config, random_of(seed, image_id, view, "light"))
    return torch.cat([image[None], views.round().clamp(0, 255).byte()])


def _warp(image: Tensor, inverses: NDArray[np.float64]) -> Tensor:
    """Float views (V, S, S, 3), of which each takes its pixels from where the inverse (V, 3, 3) of its matrix says."""
    # torch counts from -1 to 1 where unit coordinates go from 0 to 1.
    linear = inverses[:, :2, :2]
    shift = linear.sum(-1) + 2 * inverses[:, :2, 2] - 1
    places = torch.from_numpy(np.concatenate([linear, shift[..., None]], -1)).float().to(image.device)
    pixels = image.permute(2, 0, 1).expand(len(inverses), -1, -1, -1)
    grid = affine_grid(places, list(pixels.shape), align_corners=False)
    # Bicubic values may leave the range of pixels, which the light would see.
    return grid_sample(pixels, grid, "bicubic", "reflection", align_corners=False).clamp(0, 255).permute(0, 2, 3, 1)


def _relight(pixels: Tensor, config: ViewConfig, random: np.random.Generator) -> Tensor:
    limits = (config.brightness, config.contrast, config.saturation)
    brightness, contrast, saturation = (1 + random.uniform(-1, 1, 3) * limits).tolist()
    deviation = 255 * config.noise * float(random.random())
    noise = torch.Generator(pixels.device).manual_seed(int(random.integers(2**62)))
    grey = (pixels @ pixels.new_tensor(_GREY))[..., None]
    pixels = grey + saturation * (pixels - grey)
    pixels = brightness * (grey.mean() + contrast * (pixels - grey.mean()))
    return pixels + deviation * torch.randn(pixels.shape, generator=noise, device=pixels.device)
