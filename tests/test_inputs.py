"""Images as people have them."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from uldscale import inputs
from uldscale.data.images import BrokenImage
from uldscale.errors import DataError

RGB = np.random.default_rng(0).integers(0, 256, (6, 4, 3), np.uint8)


@pytest.mark.parametrize("kind", ["path", "name", "pillow", "array", "tensor", "four channels"])
def test_one_image_in_every_form_is_the_same(kind: str, tmp_path: Path) -> None:
    PIL.Image.fromarray(RGB).save(tmp_path / "a.png")
    image: inputs.Image = {
        "path": tmp_path / "a.png",
        "name": str(tmp_path / "a.png"),
        "pillow": PIL.Image.fromarray(RGB),
        "array": RGB,
        "tensor": torch.from_numpy(RGB).permute(2, 0, 1),
        "four channels": np.concatenate([RGB, np.full_like(RGB[..., :1], 255)], -1),
    }[kind]
    (alone,), (listed, _) = inputs.listed(image), inputs.listed([image, image])
    for each in (alone, listed):
        np.testing.assert_array_equal(inputs.pixels(each), RGB)


def test_grey_is_grey_and_what_is_transparent_is_white() -> None:
    for grey in (RGB[..., 0], RGB[..., :1], torch.from_numpy(RGB[..., 0]), PIL.Image.fromarray(RGB[..., 0])):
        np.testing.assert_array_equal(inputs.pixels(grey), RGB[..., :1].repeat(3, 2))
    clear = np.concatenate([RGB, np.zeros_like(RGB[..., :1])], -1)
    assert (inputs.pixels(clear) == 255).all()


def test_a_stack_is_as_many_images() -> None:
    assert len(inputs.listed(np.stack([RGB] * 3))) == 3
    assert inputs.listed([]) == []


@pytest.mark.parametrize("wrong", [RGB / 255.0, RGB[..., :2], RGB[0, 0]])
def test_what_is_no_image_is_named(wrong: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"an image is (float64|uint8) \(.*; wanted uint8 grey, RGB or RGBA"):
        inputs.pixels(wrong)


@pytest.mark.parametrize(
    "url", ["ftp://server/a.png", "simplecache::http://10.0.0.1/a.png", "https://server/a::zip://b.png"]
)
def test_urls_of_other_kinds_are_not_opened(url: str) -> None:
    with pytest.raises(DataError, match="its URL cannot be opened"):
        inputs.pixels(url)


def test_a_url_of_a_file(tmp_path: Path) -> None:
    PIL.Image.fromarray(RGB).save(tmp_path / "a.png")
    np.testing.assert_array_equal(inputs.read(f"file://{tmp_path}/a.png"), RGB)
    with pytest.raises(BrokenImage, match="the file is not there"):
        inputs.read(f"file://{tmp_path}/b.png")
