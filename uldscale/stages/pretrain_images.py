"""The images that a diffusion model is trained on, in memory, and their views."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from uldscale import files
from uldscale.data.index import ImageIndex
from uldscale.models.rendering import render_views
from uldscale.models.views import ViewConfig, view_matrices

_TOGETHER = 8  # images whose views are made at a time


def read_images(index: ImageIndex, size: int, path: str) -> Tensor:
    """All usable training images, uint8 (n, size, size, 3), from a file if it is there, else written to it."""

    def decode() -> Tensor:
        rows = index.rows("train")
        images = np.empty((len(rows), size, size, 3), np.uint8)

        def load(number: int) -> None:
            images[number] = index.load(int(rows[number]), size)

        with ThreadPoolExecutor() as pool:
            for _ in pool.map(load, range(len(rows))):
                pass
        return torch.from_numpy(images)

    return kept(path, decode)


def kept(path: str, make: Callable[[], Tensor]) -> Tensor:
    """A tensor that took long to make, from a file if it is there, else written to it: a resumed run needs it at once.

    Pages of the file come into memory as they are used, so the tensor may be larger than that.
    """
    if not files.exists(path):
        # No bytes object beside the tensor: images are the most that there is in memory.
        safetensors.torch.save_file({"tensor": make()}, f"{path}.partial")
        os.replace(f"{path}.partial", path)
    return safetensors.torch.load_file(path)["tensor"]


def views_of(images: Tensor, config: ViewConfig, *, mirror: bool, seed: int) -> Iterator[tuple[int, Tensor]]:
    """Views of images uint8 (n, S, S, 3), then with `mirror` those of their mirror images, V of each and some images at a time.

    Yields the number of these images and their views, uint8 (number * V, S, S, 3), view 0 of each first.
    """
    for kind, upright in (("image", images), ("mirror image", images.flip(2)))[: 1 + mirror]:
        for start in range(0, len(upright), _TOGETHER):
            some = upright[start : start + _TOGETHER]
            views = [_views(image, config, f"{kind} {start + number}", seed) for number, image in enumerate(some)]
            yield len(views), torch.cat(views)


def _views(image: Tensor, config: ViewConfig, name: str, seed: int) -> Tensor:
    return render_views(image, view_matrices(config, name, seed), config, name, seed)
