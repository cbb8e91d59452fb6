"""What surrounds an object, on drawn images of which the object is known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from uldscale.evaluation import background

ON = np.array([[0.5, 0.5], [0.45, 0.6], [0.6, 0.45]])
OFF = np.array([[0.1, 0.1], [0.9, 0.5], [0.5, 0.9]])


@pytest.fixture
def disc() -> NDArray[np.uint8]:
    """A disc with a face on shaded, noisy ground; it covers an eighth of the crop."""
    y, x = np.mgrid[:128, :128] / 128
    image = 90 + 60 * x + np.random.default_rng(0).normal(0, 2, (128, 128))
    inside = np.hypot(x - 0.5, y - 0.5) < 0.2
    image[inside] = 220
    image[np.hypot(x - 0.5, y - 0.45) < 0.05] = 30
    return np.repeat(image[..., None], 3, -1).astype(np.uint8)


def test_the_object_is_deep_and_the_ground_is_not(disc: NDArray[np.uint8]) -> None:
    assert background.ranks(disc, ON).min() > 0.85
    assert background.ranks(disc, OFF).max() < 0.6
    assert np.isnan(background.ranks(disc, np.full((1, 2), np.nan))).all()


def test_depth_is_the_least_change_of_colour_on_a_way_from_the_edge() -> None:
    """Two nested squares: a step of 0.4, then one of 0.2, each less the slip."""
    image = np.zeros((96, 96, 3), np.uint8)
    image[24:72, 24:72] = 102
    image[36:60, 36:60] = 153
    depths = background.depths(image)
    step = background.SLIP
    assert depths[0, 0] == 0
    assert depths[15, 15] == pytest.approx(0.4 - step, abs=1e-6)
    assert depths[24, 24] == pytest.approx(0.6 - 2 * step, abs=1e-6)


def test_an_even_image_accuses_nobody() -> None:
    even = np.full((64, 64, 3), 90, np.uint8)
    assert background.ranks(even, ON).min() > 0.5
