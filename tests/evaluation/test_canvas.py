import io

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from uldscale.evaluation import canvas
from uldscale.evaluation.canvas import picture, png


def test_pictures_lie_at_their_pixels():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    figure = canvas.canvas(100, 60)
    picture(figure, image, left=50, top=10, width=30, height=20)
    drawn = np.asarray(Image.open(io.BytesIO(png(figure))).convert("RGB"))
    expected = np.full((60, 100, 3), 255, dtype=np.uint8)
    expected[10:30, 50:80] = image
    assert (drawn == expected).all()


def test_an_svg_takes_its_colours_from_the_page_and_is_the_same_every_time() -> None:
    def drawn() -> str:
        figure = Figure(figsize=(5, 3))
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=canvas.LINES[0])
        axes.set_title("a title", color=canvas.INK)
        return canvas.svg(figure)

    first = drawn()
    assert first == drawn()
    assert first.startswith("<svg ")
    assert "var(--line-0, #2563eb)" in first
    assert "var(--ink, #1f2933)" in first
    assert ">a title<" in first
    for nothing in ("<style", "<metadata", 'id="axes_1"', 'width="360pt"'):
        assert nothing not in first


@pytest.mark.parametrize("colour", [*canvas.LINES, canvas.INK, canvas.QUIET])
def test_colours_can_be_seen_on_white(colour: str) -> None:
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(colour)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    assert 1.05 / (luminance + 0.05) >= (4.5 if colour in (canvas.INK, canvas.QUIET) else 3)
