"""Bars of several methods side by side."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from uldscale.evaluation import bars


def heights(drawn: str, number: int) -> list[float]:
    """Of the filled paths in one of the colours of lines; the legend's patch is the last."""
    paths = ElementTree.fromstring(drawn).iter("{http://www.w3.org/2000/svg}path")
    own = [path.get("d", "") for path in paths if f"fill: var(--line-{number}" in path.get("style", "")]
    return [
        float(np.ptp(np.array(re.findall(r"[ML] -?[\d.]+ (-?[\d.]+)", path), float))) for path in own if "L" in path
    ][:-1]


def test_heights_are_values_and_a_missing_value_is_no_bar() -> None:
    drawn = bars.grouped(["near", "far"], {"ours": [1.0, 4.0], "theirs": [2.0, None]}, "yaw", "error")
    first, second = heights(drawn, 0)
    assert second / first == pytest.approx(4, rel=1e-3)
    assert [height / first for height in heights(drawn, 1)] == pytest.approx([2], rel=1e-3)


def test_no_more_names_than_have_room() -> None:
    drawn = bars.grouped([f"p{number}" for number in range(68)], {"ours": [1.0] * 68}, "point", "share")
    assert re.findall(r">(p\d+)<", drawn) == [f"p{number}" for number in range(0, 68, 6)]
