"""The codec: PCA with known axes, int8 with known codes, and what is lost."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from uldscale.diffusion.codec import LEVELS, Quality, TapCodec, fit, pack, pack_quality, quality, unpack


def samples(n: int = 4000, stretch: tuple[float, ...] = (8, 4, 2, 1, 0.5, 0.1), seed: int = 0) -> NDArray[np.float32]:
    """Pixels of a Gaussian with known axes, which a random rotation hides, and a mean far from 0."""
    random = np.random.default_rng(seed)
    rotation = np.linalg.qr(np.random.default_rng(99).normal(size=(len(stretch), len(stretch))))[0]
    return ((random.normal(size=(n, len(stretch))) * stretch) @ rotation.T + 5).astype(np.float32)


def maps_of(pixels: NDArray[np.float32]) -> torch.Tensor:
    return torch.from_numpy(pixels).reshape(2, -1, 4, 5, pixels.shape[1]).movedim(-1, 2)


def test_axes_are_the_known_ones() -> None:
    rotation = np.linalg.qr(np.random.default_rng(99).normal(size=(6, 6)))[0]
    codec = fit(samples(40_000), 3)
    np.testing.assert_allclose(codec.mean, 5, atol=0.15)
    cosines = np.abs((codec.basis.numpy() * rotation[:, :3]).sum(axis=0))
    np.testing.assert_allclose(cosines, 1, atol=1e-2)
    np.testing.assert_allclose(codec.basis.T @ codec.basis, np.eye(3), atol=1e-5)


def test_the_sign_is_fixed() -> None:
    """Mirrored samples have the same axes; without a rule LAPACK may return either direction."""
    pixels = samples()
    ours, mirrored = fit(pixels, 6), fit(10 - pixels, 6)
    np.testing.assert_allclose(ours.basis, mirrored.basis, atol=1e-4)
    strongest = np.abs(ours.basis.numpy()).argmax(axis=0)
    assert (ours.basis.numpy()[strongest, range(6)] > 0).all()


def test_fit_is_deterministic() -> None:
    first, second = fit(samples(), 4), fit(samples(), 4)
    assert all(torch.equal(vars(first)[name], vars(second)[name]) for name in vars(first))


def test_known_codes() -> None:
    codec = TapCodec(torch.tensor([1.0, 0.0]), torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([0.5, 1.0]))
    features = torch.tensor([1.0 + 3.2, 2.0]).reshape(2, 1, 1)
    assert codec.coefficients(features).flatten().tolist() == pytest.approx([2.0, 3.2])
    codes = codec.encode(features)
    assert codes.dtype == torch.int8
    assert codes.flatten().tolist() == [4, 3]
    assert codec.decode(codes).flatten().tolist() == pytest.approx([4.0, 2.0])
    levels = codec.encode(features, "float16")
    assert levels.dtype == torch.float16
    assert levels.flatten().tolist() == pytest.approx([4.0, 3.2], rel=2**-11)
    assert codec.decode(levels).dtype == torch.float32
    assert codec.decode(levels).flatten().tolist() == pytest.approx([4.2, 2.0], rel=1e-3)


@settings(max_examples=30, deadline=None)
@given(st.floats(-1e6, 1e6))
def test_codes_are_clipped_symmetrically(value: float) -> None:
    codec = TapCodec(torch.zeros(1), torch.ones(1, 1), torch.tensor([2.0]))
    code = int(codec.encode(torch.full((1, 1, 1), value)))
    assert code == max(-LEVELS, min(LEVELS, round(float(np.float32(value)) / 2)))


def test_round_trip_of_all_channels_errs_by_half_a_level() -> None:
    pixels = samples(4000)
    codec = fit(pixels, 6)
    maps = maps_of(pixels)
    assert codec.encode(maps).shape == maps.shape
    coefficients = codec.coefficients(maps)
    error = (codec.encode(maps) * codec.scales[:, None, None] - coefficients).abs()
    clipped = coefficients.abs() > LEVELS * codec.scales[:, None, None]
    assert 0 < clipped.float().mean() < 2e-3
    assert (error <= codec.scales[:, None, None] * 0.501)[~clipped].all()


def test_int8_is_float16_clipped_and_rounded() -> None:
    codec, maps = fit(samples(4000), 4), maps_of(samples(4000))
    levels = codec.encode(maps, "float16").float()
    assert levels.abs().max() > LEVELS
    # Half a level, and what float16 leaves of a number below 128.
    assert ((levels.clamp(-LEVELS, LEVELS) - codec.encode(maps)).abs() <= 0.5 + 2**-5).all()


def test_channels_are_capped_at_those_of_the_tap() -> None:
    assert fit(samples(), 64).basis.shape == (6, 6)
    assert fit(samples(), 64).encode(maps_of(samples())).shape[2] == 6


def test_quality_on_held_out_pixels_has_a_known_answer() -> None:
    variances = np.square([8, 4, 2, 1, 0.5, 0.1])
    kept = float(variances[:2].sum() / variances.sum())
    found = quality(fit(samples(20_000), 2), samples(20_000, seed=1))
    assert found.explained == pytest.approx(kept, abs=3e-3)
    assert 1 - found.explained <= found.error < 1 - found.explained + 1e-3
    whole = fit(samples(), 6)
    assert quality(whole, samples(seed=1), "float16").error < 2.0**-22 < quality(whole, samples(seed=1)).error < 1e-3


def test_a_dead_channel_gives_finite_codes() -> None:
    pixels = samples()
    pixels[:, 2] = 3
    codec = fit(pixels, 6)
    assert torch.isfinite(codec.scales).all()
    assert (codec.scales > 0).all()
    assert (codec.encode(maps_of(pixels))[:, :, 5] == 0).all()
    everything = fit(np.full((10, 2), 7, np.float32), 2)
    assert (everything.encode(torch.full((2, 3, 3), 7.0)) == 0).all()


def test_one_outlier_does_not_coarsen_the_rest() -> None:
    pixels = samples(stretch=(8, 8.5))
    outlying = np.concatenate([pixels, [[105, 5]]]).astype(np.float32)
    np.testing.assert_allclose(fit(outlying, 2).scales, fit(pixels, 2).scales, rtol=0.15)


def test_pack_and_unpack_are_inverse() -> None:
    codec = fit(samples(), 3)
    arrays = pack({"up_blocks.0.resnets.1": codec})
    assert {name: array.shape for name, array in arrays.items()} == {
        "up_blocks.0.resnets.1/mean": (6,),
        "up_blocks.0.resnets.1/basis": (6, 3),
        "up_blocks.0.resnets.1/scales": (3,),
    }
    again = unpack(arrays, "up_blocks.0.resnets.1")
    assert all(torch.equal(vars(codec)[name], vars(again)[name]) for name in vars(codec))
    with pytest.raises(KeyError):
        unpack(arrays, "up_blocks.0.resnets.2")


def test_quality_is_stored_beside_the_codec() -> None:
    found = pack_quality({"up.0": Quality(explained=0.123456789, error=0.9)})
    assert {name: (array.shape, float(array)) for name, array in found.items()} == {
        "up.0/explained": ((), pytest.approx(0.12346, rel=1e-6)),
        "up.0/error": ((), pytest.approx(0.9)),
    }
