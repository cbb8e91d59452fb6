"""Bars of several methods side by side."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from uldscale.evaluation import bars

BLUE, ORANGE = (0x25, 0x63, 0xEB), (0xE8, 0x59, 0x0C)


def area(png: bytes, colour: tuple[int, int, int]) -> NDArray[np.int64]:
    """Pixels of a colour by column."""
    picture = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    return (np.abs(picture - colour).max(axis=-1) < 8).sum(axis=0)


def test_heights_are_values_and_a_missing_value_is_no_bar() -> None:
    picture = bars.grouped(["near", "far"], {"ours": [1.0, 4.0], "theirs": [2.0, None]}, "yaw", "error")
    blue, orange = area(picture, BLUE), area(picture, ORANGE)
    half = len(blue) // 2
    # The legend's patch is in the middle: bars are higher than it everywhere else.
    assert blue[half:].max() / blue[:half].max() == pytest.approx(4, rel=0.05)
    assert orange[:half].max() / blue[:half].max() == pytest.approx(2, rel=0.05)
    assert (orange[half + 200 :] == 0).all()
