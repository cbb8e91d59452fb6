"""The positional subspace: directions of a model's features that say where a cell is, whatever it shows.

A transformer adds its position to every patch, so that clusters of its features may follow places instead of parts. The directions are
found on images that are turned and mirrored at random: what is then still the same at the same place comes from the model, and not from
objects that all stand upright in the middle. What is round about the middle would stay, so nothing round is looked for.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uldscale.diffusion import noising

COUNT = 4
"""Functions of the place: x, y, x y and x² - y², from the middle. Each has a mean of 0 over the eight turns, and on any square grid
nothing in common with the others."""


def turned(image: Tensor, name: str, seed: int) -> Tensor:
    """An image (S, S, 3) in one of its eight turns and mirror images; in which, depends on its name and the seed alone."""
    turns = int(noising.generator(seed, "turn", name).integers(8))
    return torch.rot90(image if turns < 4 else image.flip(1), turns % 4)


def moments(maps: Tensor) -> Tensor:
    """How maps (n, Cin, H, W), H = W, go along with each function of the place: (n, COUNT, Cin) float32, means over the cells."""
    at = (torch.arange(maps.shape[-1], device=maps.device) + 0.5) / maps.shape[-1] - 0.5
    y, x = torch.meshgrid(at, at, indexing="ij")
    functions = torch.stack([x, y, x * y, x**2 - y**2])
    return torch.einsum("nchw,fhw->nfc", maps.float(), functions) / at.numel() ** 2


def directions(total: NDArray[np.float64]) -> NDArray[np.float64]:
    """Orthonormal columns (Cin, at most COUNT) of the subspace, from the sum (COUNT, Cin) of the moments of many maps."""
    axes, sizes, _ = np.linalg.svd(total.T, full_matrices=False)
    return np.asarray(axes[:, sizes > 1e-6 * max(sizes[0], np.finfo(np.float32).tiny)])
