"""Images as people have them: paths and URLs, Pillow images, arrays and tensors become upright RGB pixels."""

import os
from collections.abc import Iterator, Sequence

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from torch import Tensor

from uldscale.data.images import BrokenImage, Pixels, decode, from_pillow
from uldscale.errors import DataError

Image = str | os.PathLike[str] | PIL.Image.Image | NDArray[np.uint8] | Tensor
"""A path or URL, a Pillow image, or uint8 grey, RGB or RGBA: an array (H, W) or (H, W, C), a tensor (H, W) or (C, H, W)."""

SCHEMES = ("file", "http", "https", "s3", "gs", "hf")
"""Of URLs. http and https reach inside addresses only where the URL itself names one, never by a redirect."""


def listed(images: Image | Sequence[Image]) -> Sequence[Image]:
    """One image as a list of one; a stack of arrays or tensors, which has one dimension more, as a list of images."""
    if isinstance(images, str | os.PathLike | PIL.Image.Image):
        return [images]
    return [images] if isinstance(images, np.ndarray | Tensor) and images.ndim < 4 else list(images)


def pixels(image: Image) -> Pixels:
    """(H, W, 3) RGB. Raises DataError that names the image, or its form where that is wrong."""
    try:
        if isinstance(image, str | os.PathLike):
            return read(os.fspath(image))
        if isinstance(image, PIL.Image.Image):
            return from_pillow(image)
        return from_pillow(PIL.Image.fromarray(_as_array(image)))
    except BrokenImage as problem:
        raise DataError(f"{image if isinstance(image, str | os.PathLike) else 'an image'}: {problem.reason}") from None


def read(place: str) -> Pixels:
    """(H, W, 3) RGB of a path or URL. Raises BrokenImage."""
    if not may_be_opened(place):
        raise BrokenImage(f"its URL cannot be opened; wanted a path or a URL of {', '.join(SCHEMES)}")
    return decode(place)


def may_be_opened(place: str) -> bool:
    """Whether it is a path, or a URL of the kinds that are read here."""
    scheme, separator, _ = place.partition("://")
    return not separator or (scheme.lower() in SCHEMES and "::" not in place)


def in_parts(images: Sequence[Image], size: int) -> Iterator[tuple[slice, list[Pixels]]]:
    """Pixels of `size` images at a time, and where they stand."""
    for start in range(0, len(images), size):
        part = slice(start, min(start + size, len(images)))
        yield part, [pixels(image) for image in images[part]]


def _as_array(image: NDArray[np.uint8] | Tensor) -> NDArray[np.uint8]:
    """(H, W) or (H, W, C)"""
    if isinstance(image, Tensor):
        image = (image.permute(1, 2, 0) if image.ndim == 3 else image).cpu().numpy()
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise DataError(
            f"an image is {array.dtype} {tuple(image.shape)}; wanted uint8 grey, RGB or RGBA: arrays (H, W) or (H, W, C), tensors (C, H, W)"
        )
    return array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
