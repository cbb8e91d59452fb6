import io

import numpy as np
from PIL import Image

from uldscale.evaluation.canvas import canvas, picture, png


def test_pictures_lie_at_their_pixels():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    figure = canvas(100, 60)
    picture(figure, image, left=50, top=10, width=30, height=20)
    drawn = np.asarray(Image.open(io.BytesIO(png(figure))).convert("RGB"))
    expected = np.full((60, 100, 3), 255, dtype=np.uint8)
    expected[10:30, 50:80] = image
    assert (drawn == expected).all()
