"""Views of an image: random similarities and changes of light, seeded by the image's id.

Cached features cannot be augmented later, so every image gets V fixed views before extraction. View 0 is the image
untouched; view 1, unless told otherwise, is only moved.
Law: a view depends on (seed, image id, view number) and the settings alone, never on the worker, the order or the other
views. Their pixels are made in rendering.py.

V views, n points. Points are in unit coordinates (x right, y down, crop = [0, 1]²).
Source: flips and rotations of paper section 3.2; the ranges of KTL's augmentation (rotation 40°, scale 0.8 to 1.25,
shift 5 %).
"""

import hashlib
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from uldscale.config import Settings

if TYPE_CHECKING:
    from torch import Tensor

Points = TypeVar("Points", NDArray[np.floating[Any]], "Tensor")


class ViewConfig(Settings):
    """How many views an image has and how far they stray from it."""

    count: int = Field(4, ge=1)
    """Views per image, the untouched one included."""
    rotation: float = Field(40.0, ge=0, le=180)
    """Largest rotation about the centre, degrees, either way."""
    scale: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (0.8, 1.25)
    """Smallest and largest magnification, drawn log-uniformly."""
    shift: float = Field(0.05, ge=0, le=0.5)
    """Largest shift along x and along y, as a share of the crop."""
    flip: bool = False
    """Mirror every other view, on average: only for objects whose left is like their right, since landmarks then are on either side."""
    relit_from: int = Field(2, ge=1)
    """First view whose light changes, too. View 1 is only moved: consistency compares it with view 0 (supplement 8)."""
    brightness: float = Field(0.2, ge=0, lt=1)
    """Largest relative change of all pixel values."""
    contrast: float = Field(0.2, ge=0, lt=1)
    """Largest relative change of the distance to the mean grey."""
    saturation: float = Field(0.3, ge=0, le=1)
    """Largest relative change of the distance to a pixel's own grey."""
    noise: float = Field(0.02, ge=0, lt=1)
    """Largest standard deviation of Gaussian pixel noise, as a share of the range of values."""

    @field_validator("scale")
    @classmethod
    def _ordered(cls, scale: tuple[float, float]) -> tuple[float, float]:
        if scale[0] > scale[1]:
            raise ValueError("must be (smallest, largest)")
        return scale


def view_matrices(config: ViewConfig, image_id: str, seed: int) -> NDArray[np.float32]:
    """(V, 3, 3) affine matrices from the unit coordinates of view 0 to those of view v; the first is the identity."""
    drawn = [_similarity(config, random_of(seed, image_id, view, "place")) for view in range(1, config.count)]
    return np.stack([np.eye(3), *drawn]).astype(np.float32)


def apply(matrix: Points, points: Points) -> Points:
    """Points (..., n, 2) moved by affine matrices (..., 3, 3), numpy or torch. A missing point (NaN) stays missing."""
    moved: Points = points @ matrix[..., :2, :2].mT + matrix[..., None, :2, 2]
    return moved


def random_of(seed: int, image_id: str, view: int, purpose: str) -> np.random.Generator:
    """Random numbers for one purpose of one view."""
    digest = hashlib.sha256(f"{seed}/{view}/{purpose}/{image_id}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


def _similarity(config: ViewConfig, generator: np.random.Generator) -> NDArray[np.float64]:
    # All numbers are drawn whatever the settings, so that switching flips on leaves the rotations as they were.
    angle = np.radians(config.rotation) * generator.uniform(-1, 1)
    scale = np.exp(generator.uniform(*np.log(config.scale)))
    shift = config.shift * generator.uniform(-1, 1, 2)
    mirrored = generator.random() < 0.5 and config.flip
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = np.eye(3)
    matrix[:2, :2] = scale * turn @ np.diag([-1.0 if mirrored else 1.0, 1.0])
    matrix[:2, 2] = 0.5 + shift - matrix[:2, :2] @ [0.5, 0.5]
    return matrix
