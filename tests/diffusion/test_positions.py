"""The positional subspace: found where it is known, not mistaken for objects, and gone from what is stored."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from uldscale.diffusion import codec as codecs
from uldscale.diffusion import positions
from uldscale.diffusion.backbone import Backbone, BackboneConfig
from uldscale.diffusion.codec import CodecConfig
from uldscale.diffusion.extractor import Extractor, FeatureConfig

IDS = [f"image{number}" for number in range(64)]


def functions(side: int) -> Tensor:
    """x, y, x y, x² - y² of the cells, each of unit norm."""
    x = torch.linspace(-1, 1, side, dtype=torch.float64).expand(side, side)
    found = torch.stack([x, x.T, x * x.T, x**2 - x.T**2])
    return found / found.flatten(1).norm(dim=1)[:, None, None]


def upright(count: int, side: int) -> Tensor:
    """Images (n, S, S, 3) in [0, 1] of an object that always has the same bright part up left, and noise."""
    images = torch.rand(count, side, side, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    images[:, : side // 2, : side // 2, 0] += 1
    return images


def maps(images: Tensor) -> Tensor:
    """A model (n, 8, S, S) that gives what a cell shows in channels 0 to 2, and where it is in 3 to 6."""
    count, side = images.shape[:2]
    where = functions(side).expand(count, -1, -1, -1) * side
    return torch.cat([images.movedim(-1, 1), where, where[:, :1] * 0], dim=1)


def subspace(images: Tensor) -> NDArray[np.float64]:
    return positions.directions(positions.moments(maps(images)).double().sum(dim=0).numpy())


def test_a_known_subspace_is_found_and_objects_are_not_mistaken_for_it() -> None:
    images = upright(64, 8)
    turned = torch.stack([positions.turned(image, name, 0) for image, name in zip(images, IDS, strict=True)])
    found = subspace(turned)
    assert found.shape == (8, 4)
    np.testing.assert_allclose(found.T @ found, np.eye(4), atol=1e-9)
    share = np.square(found[:3]).sum() / 4
    assert share < 0.01
    assert np.square(subspace(images)[:3]).sum() / 4 > 5 * share


def test_an_image_turns_by_its_name_in_all_eight_ways() -> None:
    image = torch.arange(27).reshape(3, 3, 3)
    turned = {name: positions.turned(image, name, 0) for name in IDS}
    assert len({tuple(found[..., 0].flatten().tolist()) for found in turned.values()}) == 8
    assert torch.equal(turned["image7"], positions.turned(image, "image7", 0))
    assert any(not torch.equal(found, positions.turned(image, name, 1)) for name, found in turned.items())


def test_maps_of_one_cell_have_no_places() -> None:
    assert positions.directions(positions.moments(torch.rand(2, 6, 1, 1)).double().sum(0).numpy()).shape == (6, 0)


def test_a_codec_without_directions_is_orthogonal_to_them() -> None:
    samples = np.random.default_rng(0).normal(size=(500, 9))
    samples[:, 2] *= 9
    without = np.eye(9)[:, [2]]
    codec = codecs.fit(samples, 64, without)
    np.testing.assert_allclose(without.T @ codec.basis.numpy(), 0, atol=1e-6)
    np.testing.assert_allclose(codec.basis.T @ codec.basis, np.eye(9 - positions.COUNT), atol=1e-5)
    moved = samples + 100 * without.T
    pixels, others = (torch.from_numpy(values.astype(np.float32))[:, :, None, None] for values in (samples, moved))
    torch.testing.assert_close(codec.coefficients(others), codec.coefficients(pixels), atol=1e-3, rtol=1e-3)


def test_stored_features_no_longer_say_where_they_are(dino: Path) -> None:
    """Of other pictures of faint noise, in which nothing has a place."""
    images = np.random.default_rng(0).integers(96, 160, (128, 20, 20, 3), np.uint8)
    seen, fresh = images[:64], images[64:]
    backbone = Backbone.load(BackboneConfig(model=str(dino)))
    said = {}
    for position in ("keep", "remove"):
        config = CodecConfig(kind="pca-fp16", channels=64, position=position)
        extractor = Extractor(backbone, FeatureConfig(mode="clean", timesteps=(0,), batch=16, codec=config))
        without = {tap: positions.directions(total) for tap, total in extractor.moments(seen, IDS).items()}
        chosen = without if position == "remove" else None
        codec = codecs.fit_all(extractor.sample(seen, IDS, 25), config.channels, chosen)
        codes = torch.from_numpy(extractor.encode(fresh, IDS, codec)["r05"]).double()
        scales = torch.stack([torch.from_numpy(codec[f"{tap}/scales"]) for tap in extractor.taps])
        assert codes.shape == (64, 1, 3, {"keep": 32, "remove": 28}[position], 5, 5)
        mean = (codes * scales[:, :, None, None]).mean(dim=(0, 1))
        said[position] = float(torch.einsum("lchw,fhw->lfc", mean, functions(5)).square().sum())
    assert said["remove"] < 0.1 * said["keep"]


def test_features_that_no_codec_touches_keep_their_position() -> None:
    with pytest.raises(ValidationError, match="kind none keeps all channels as they are, so position must be keep"):
        CodecConfig(kind="none", position="remove")


def test_stores_from_before_are_still_those_that_keep_it() -> None:
    assert CodecConfig().identity == {"kind": "pca-int8", "channels": 64, "sample": 256}
    assert CodecConfig(position="remove").identity["position"] == "remove"
