"""Extraction: the law of bytes, the shapes, the arithmetic against plain calls, and what is refused."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

from uldscale.diffusion import codec as codecs
from uldscale.diffusion import noising, taps
from uldscale.diffusion.backbone import Backbone, BackboneConfig
from uldscale.diffusion.codec import CodecConfig
from uldscale.diffusion.extractor import Extractor, FeatureConfig
from uldscale.errors import ConfigError, ModelError

Arrays = dict[str, NDArray[Any]]
IDS = [f"image{number}" for number in range(7)]
NAMES = [f"up_blocks.{level}.resnets.{block}" for level in range(2) for block in range(2)]


@pytest.fixture(scope="module")
def backbone(ldm: Path) -> Backbone:
    return Backbone.load(BackboneConfig(model=str(ldm)))


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (7, 16, 16, 3), np.uint8)


def make(backbone: Backbone, **settings: Any) -> Extractor:
    settings.setdefault("codec", CodecConfig(channels=20))
    return Extractor(backbone, FeatureConfig(**{"timesteps": (1, 100), "batch": 4, **settings}))


def fit(extractor: Extractor, images: NDArray[np.uint8], ids: list[str], pixels: int = 1000) -> Arrays:
    return codecs.fit_all(extractor.sample(images, ids, pixels), extractor.config.codec.channels)


def same(ours: Arrays, theirs: Arrays, rows: Any) -> bool:
    return all(np.array_equal(ours[name], theirs[name][rows]) for name in theirs)


def test_features_are_those_of_plain_calls(backbone: Backbone, images: NDArray[np.uint8]) -> None:
    found = make(backbone).raw(images, IDS)
    with torch.no_grad():
        for row, (number, timestep) in [(0, (0, 1)), (5, (1, 100))]:
            pixels = torch.from_numpy(images[row : row + 1]).movedim(-1, 1) / 255 * 2 - 1
            latents = backbone.vae.encode(pixels).latent_dist.mean * 0.5
            alpha = backbone.alphas_cumprod[timestep]
            noise = noising.noise((4, 8, 8), seed=0, timestep=timestep, name=IDS[row])
            expected = taps.read(
                backbone.unet,
                NAMES,
                alpha.sqrt() * latents + (1 - alpha).sqrt() * noise,
                torch.tensor([timestep]),
                backbone.condition(1, 16),
            )
            for name in NAMES:
                torch.testing.assert_close(found[name][row, number], expected[name][0], atol=1e-5, rtol=1e-4)


def test_clean_is_one_call_without_noise(backbone: Backbone, images: NDArray[np.uint8]) -> None:
    found = make(backbone, mode="clean", timesteps=(0,)).raw(images[:1], IDS[:1])
    with torch.no_grad():
        latents = backbone.latents(torch.from_numpy(images[:1]).movedim(-1, 1) / 127.5 - 1)
        expected = taps.read(backbone.unet, NAMES, latents, torch.tensor([0]), backbone.condition(1, 16))
    for name in NAMES:
        torch.testing.assert_close(found[name][:, 0], expected[name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_inversion_is_one_walk_for_all_timesteps(
    backbone: Backbone, images: NDArray[np.uint8], prediction: str
) -> None:
    """Against the textbook: predict the noise, remove it, put it back at the level of the next timestep."""
    model = replace(backbone, prediction_type=prediction)
    found = make(model, mode="inversion", timesteps=(-1, 20, 60)).raw(images, IDS)
    with torch.no_grad():
        at = model.latents(torch.from_numpy(images[4:5]).movedim(-1, 1) / 127.5 - 1)
        for here, there in zip((-1, 0, 20, 40, 60), (0, 20, 40, 60, 80), strict=True):
            maps, said = taps.read_whole(model.unet, NAMES, at, torch.tensor([here]), model.condition(1, 16))
            if here in (-1, 20, 60):
                place = (-1, 20, 60).index(here)
                for name in NAMES:
                    torch.testing.assert_close(found[name][4, place], maps[name][0], atol=1e-4, rtol=1e-3)
            alpha, beyond = (float(model.alphas_cumprod[step]) if step >= 0 else 1.0 for step in (here, there))
            clean, eps = (at - (1 - alpha) ** 0.5 * said) / alpha**0.5, said
            if prediction == "v_prediction":
                clean, eps = alpha**0.5 * at - (1 - alpha) ** 0.5 * said, alpha**0.5 * said + (1 - alpha) ** 0.5 * at
            at = beyond**0.5 * clean + (1 - beyond) ** 0.5 * eps


def test_inversion_calls_the_model_no_more_often_than_it_must(backbone: Backbone, images: NDArray[np.uint8]) -> None:
    asked: list[int] = []
    hook = backbone.unet.register_forward_pre_hook(lambda module, inputs: asked.append(int(inputs[1][0])))
    make(backbone, mode="inversion", timesteps=(-1, 60), batch=8).raw(images, IDS)
    hook.remove()
    assert asked == [-1, 0, 20, 40, 60]


def test_the_vae_sees_every_image_once(backbone: Backbone, images: NDArray[np.uint8]) -> None:
    """And not once for every timestep."""
    seen: list[torch.Tensor] = []
    with backbone.vae.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0])):
        make(backbone, batch=4, timesteps=(1, 100, 300)).raw(images, IDS)
    assert [len(batch) for batch in seen] == [4, 4]
    torch.testing.assert_close(torch.cat(seen)[:7], torch.from_numpy(images).movedim(-1, 1) / 127.5 - 1)


def raises(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


SHORTAGES = {
    "gpu": raises(torch.OutOfMemoryError("no memory")),
    "cpu": lambda: torch.empty(1 << 50),
    "cublas": raises(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")),
    "cudnn": raises(RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")),
}


@pytest.mark.parametrize("shortage", SHORTAGES)
def test_short_memory_halves_the_batch(backbone: Backbone, images: NDArray[np.uint8], shortage: str) -> None:
    """The features are those of a job that asked for the smaller batch."""
    extractor = make(backbone, batch=8)

    def short(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if len(inputs[0]) > 2:
            SHORTAGES[shortage]()

    expected = make(backbone, batch=2).raw(images, IDS)
    with backbone.unet.register_forward_pre_hook(short):
        found = extractor.raw(images, IDS)
    assert extractor.batch == 2
    assert all(torch.equal(found[name], expected[name]) for name in NAMES)


def test_another_error_halves_nothing(backbone: Backbone, images: NDArray[np.uint8]) -> None:
    extractor = make(backbone, batch=4)
    hook = backbone.unet.register_forward_pre_hook(lambda module, inputs: raises(RuntimeError("a bug"))())
    with hook, pytest.raises(RuntimeError, match="a bug"):
        extractor.raw(images, IDS)
    assert extractor.batch == 4


def test_memory_too_short_for_one_is_an_error(backbone: Backbone, images: NDArray[np.uint8]) -> None:
    def short(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        raise torch.OutOfMemoryError("no memory")

    hook = backbone.unet.register_forward_pre_hook(short)
    with pytest.raises(torch.OutOfMemoryError):
        make(backbone, batch=4).raw(images, IDS)
    hook.remove()


@pytest.mark.parametrize("weight", [math.nan, 1e30])
def test_numbers_that_are_not_finite_are_no_features(ldm: Path, images: NDArray[np.uint8], weight: float) -> None:
    """As codes they would be zeros, and in 16 bits 1e30 is infinite."""
    broken = Backbone.load(BackboneConfig(model=str(ldm)))
    codec = fit(make(broken), images, IDS)
    broken.unet.get_submodule(f"{NAMES[2]}.conv2").bias[3] = weight
    message = (
        "gives numbers that are not finite or too large for 16 bits, for one of 'image0' to 'image6'; check its weights"
    )
    with pytest.raises(ModelError, match=message):
        make(broken).sample(images, IDS, 1000)
    with pytest.raises(ModelError, match=message):
        make(broken, codec=CodecConfig(kind="none")).encode(images, IDS, {})
    if math.isnan(weight):
        with pytest.raises(ModelError, match=message):
            make(broken).encode(images, IDS, codec)


def test_shapes_types_and_specs_agree(backbone: Backbone, images: NDArray[np.uint8]) -> None:
    extractor = make(backbone)
    codec = fit(extractor, images, IDS)
    features = extractor.encode(images, IDS, codec)
    assert {name: (maps.shape, maps.dtype) for name, maps in features.items()} == {
        "r04": ((7, 2, 2, 20, 4, 4), np.dtype(np.int8)),
        "r08": ((7, 2, 2, 16, 8, 8), np.dtype(np.int8)),
    }
    assert extractor.tap_specs(16) == [
        (NAMES[0], 20, 4),
        (NAMES[1], 20, 4),
        (NAMES[2], 16, 8),
        (NAMES[3], 16, 8),
    ]
    assert {name: codec[f"{NAMES[0]}/{name}"].shape for name in ("mean", "basis", "scales")} == {
        "mean": (32,),
        "basis": (32, 20),
        "scales": (20,),
    }
    assert len(codec) == 3 * len(NAMES)


def test_codes_stand_for_the_features(backbone: Backbone, images: NDArray[np.uint8]) -> None:
    """With all channels kept, decoding by hand gives the raw features back up to the quantisation, tap by tap."""
    extractor = make(backbone, codec=CodecConfig(channels=32))
    codec = fit(extractor, images, IDS)
    features, raw = extractor.encode(images, IDS, codec), extractor.raw(images, IDS)
    for place, name in enumerate(NAMES):
        codes = features["r04" if place < 2 else "r08"][:, :, place % 2]
        mean, basis, scales = (codec[f"{name}/{part}"] for part in ("mean", "basis", "scales"))
        coefficients = codes.transpose(0, 1, 3, 4, 2) * scales
        decoded = (coefficients @ basis.T + mean).transpose(0, 1, 4, 2, 3)
        error = np.square(decoded - raw[name].numpy()).mean() / raw[name].numpy().var()
        assert error < 1e-3


def test_without_a_codec_features_are_half_precision(backbone: Backbone, images: NDArray[np.uint8]) -> None:
    extractor = make(backbone, codec=CodecConfig(kind="none"))
    assert [tap.channels for tap in extractor.tap_specs(16)] == [32, 32, 16, 16]
    features, raw = extractor.encode(images, IDS, {}), extractor.raw(images, IDS)
    assert features["r08"].dtype == np.float16
    assert np.array_equal(features["r08"][:, :, 1], raw[NAMES[3]].half().numpy())


@pytest.mark.parametrize("batch", [1, 3, 4, 64])
def test_law_of_bytes(backbone: Backbone, images: NDArray[np.uint8], batch: int) -> None:
    """An image gives the same bytes alone, in any company, in any order."""
    assert_law_of_bytes(make(backbone, batch=batch), images, IDS)
    assert_law_of_bytes(make(backbone, batch=batch, mode="inversion", timesteps=(0, 40)), images, IDS)


def test_law_of_bytes_of_a_real_model(shared: Path) -> None:
    """Convolutions of this size, unlike those of the toy model, differ in their last bits with the batch size."""
    files = sorted((shared / "data/faces68/images").iterdir())[:3]
    faces = np.stack([np.asarray(Image.open(file).convert("RGB").resize((128, 128))) for file in files])
    real = Backbone.load(BackboneConfig(model=str(shared / "models/faces68-ldm")))
    extractor = Extractor(real, FeatureConfig(timesteps=(50, 150)))
    assert_law_of_bytes(extractor, faces, [file.name for file in files])


def assert_law_of_bytes(extractor: Extractor, images: NDArray[np.uint8], ids: list[str]) -> None:
    codec = fit(extractor, images, ids)
    whole = extractor.encode(images, ids, codec)
    assert same(extractor.encode(images[2:3], ids[2:3], codec), whole, slice(2, 3))
    order = [2, 0]
    assert same(extractor.encode(images[order], [ids[row] for row in order], codec), whole, order)
    raw, alone = extractor.raw(images, ids), extractor.raw(images[1:2], ids[1:2])
    assert all(torch.equal(alone[name][0], raw[name][1]) for name in raw)


def test_sample_is_deterministic(backbone: Backbone, images: NDArray[np.uint8]) -> None:
    first, second = (make(backbone).sample(images, IDS, 5) for _ in range(2))
    assert list(first) == NAMES
    assert all(np.array_equal(first[name], second[name]) for name in first)
    other = make(backbone).sample(images, IDS[::-1], 5)
    assert not any(np.array_equal(first[name], other[name]) for name in first)


def test_codec_is_fitted_on_all_cells_of_few_images(backbone: Backbone, images: NDArray[np.uint8]) -> None:
    extractor = make(backbone)
    means = extractor.raw(images, IDS)[NAMES[3]].mean(dim=(0, 1, 3, 4))
    np.testing.assert_allclose(fit(extractor, images, IDS)[f"{NAMES[3]}/mean"], means, atol=1e-3)


def test_sampled_pixels_are_other_pixels_of_every_map(backbone: Backbone, images: NDArray[np.uint8]) -> None:
    extractor = make(backbone)
    raw, sampled = extractor.raw(images, IDS), extractor.sample(images, IDS, 6)
    for name, pixels in sampled.items():
        cells = raw[name].flatten(0, 1).flatten(2).transpose(1, 2).half().numpy()
        assert pixels.shape == (7 * 2 * 6, cells.shape[2])
        found = [
            [int(np.flatnonzero((cells[place] == pixel).all(axis=1))[0]) for pixel in pixels[place * 6 : place * 6 + 6]]
            for place in range(14)
        ]
        assert all(len(set(chosen)) == 6 for chosen in found)
        assert len({tuple(chosen) for chosen in found}) == 14


def test_quality_improves_with_channels(backbone: Backbone, images: NDArray[np.uint8]) -> None:
    errors = []
    for channels in (2, 8, 32):
        extractor = make(backbone, codec=CodecConfig(channels=channels))
        held_out = extractor.sample(images[5:], IDS[5:], 1000)
        found = codecs.quality_all(fit(extractor, images[:5], IDS[:5]), held_out)
        assert list(found) == NAMES
        errors.append(found[NAMES[0]].error)
        assert 0 < found[NAMES[0]].explained <= 1 + 1e-5
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-2


def test_noise_of_its_own_or_shared(backbone: Backbone, images: NDArray[np.uint8]) -> None:
    twins = np.stack([images[0], images[0]])
    own = make(backbone, noise="image").raw(twins, ["a", "b"])[NAMES[3]]
    shared = make(backbone, noise="shared").raw(twins, ["a", "b"])[NAMES[3]]
    assert not torch.equal(own[0], own[1])
    assert torch.equal(shared[0], shared[1])
    assert not torch.equal(make(backbone, seed=1).raw(twins, ["a", "b"])[NAMES[3]], own)


def test_a_list_of_taps_gives_the_same_maps(backbone: Backbone, images: NDArray[np.uint8]) -> None:
    extractor = make(backbone, taps=(NAMES[1],))
    found = extractor.raw(images, IDS)
    assert list(found) == [NAMES[1]]
    assert torch.equal(found[NAMES[1]], make(backbone).raw(images, IDS)[NAMES[1]])
    assert list(extractor.encode(images, IDS, fit(extractor, images, IDS))) == ["r04"]


def test_bfloat16_is_close(ldm: Path, backbone: Backbone, images: NDArray[np.uint8]) -> None:
    half = Backbone.load(BackboneConfig(model=str(ldm), dtype="bfloat16"))
    ours, theirs = make(half).raw(images, IDS)[NAMES[3]], make(backbone).raw(images, IDS)[NAMES[3]]
    assert ours.dtype == torch.float32
    assert (ours - theirs).square().mean() < 1e-3 * theirs.var()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"timesteps": ()}, "timesteps must be at least one"),
        ({"timesteps": (50, 1)}, r"rising, got \[50, 1\]"),
        ({"timesteps": (1, 1)}, "rising"),
        ({"timesteps": (-1, 5)}, "not negative"),
        ({"mode": "clean"}, r"timesteps must be \[0\] \(\[261\] with CleanDIFT\), got \[50, 150, 300\]"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"mode": "inversion", "timesteps": (-2, 0)}, "not negative"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        FeatureConfig(**settings)


def test_settings_that_the_model_cannot_meet(backbone: Backbone, images: NDArray[np.uint8]) -> None:
    with pytest.raises(ConfigError, match=f"features.timesteps: 1000, but {backbone.name} has 0 to 999"):
        make(backbone, timesteps=(1, 1000))
    with pytest.raises(ConfigError, match=rf"features.timesteps: 50, but {backbone.name} wants \[0\] without noise"):
        make(backbone, mode="clean", timesteps=(50,))
    with pytest.raises(ConfigError, match="features.timesteps: 50, but wanted some of -1, 0, 20, ..., 960"):
        make(backbone, mode="inversion", timesteps=(-1, 50))
    short = replace(backbone, alphas_cumprod=backbone.alphas_cumprod[:49])
    with pytest.raises(
        ConfigError, match=f"features.mode: inversion takes 50 steps, but {backbone.name} has 49; use mode"
    ):
        make(short, mode="inversion", timesteps=(-1, 0))
    strange = replace(backbone, prediction_type="sample")
    with pytest.raises(ConfigError, match="inversion knows no prediction type 'sample'"):
        make(strange, mode="inversion", timesteps=(-1, 20))
    with pytest.raises(ConfigError, match="features.taps"):
        make(backbone, taps=("up_blocks.7.resnets.0",))
    with pytest.raises(ConfigError, match=r"data.size: 18, but .* wants a multiple of 4 pixels"):
        make(backbone).tap_specs(18)
    with pytest.raises(ConfigError, match=r"data.size: 6"):
        make(backbone).raw(images[:, :6, :6], IDS)


@pytest.mark.parametrize(
    ("shape", "ids"), [((2, 16, 16), "ab"), ((2, 16, 20, 3), "ab"), ((2, 16, 16, 4), "ab"), ((2, 16, 16, 3), "a")]
)
def test_misuse(backbone: Backbone, shape: tuple[int, ...], ids: str) -> None:
    with pytest.raises(ValueError, match="wanted"):
        make(backbone).raw(np.zeros(shape, np.uint8), list(ids))
    with pytest.raises(ValueError, match="wanted"):
        make(backbone).raw(np.zeros((1, 16, 16, 3), np.float32), ["a"])
    with pytest.raises(ValueError, match="at least one"):
        make(backbone).raw(np.zeros((0, 16, 16, 3), np.uint8), [])
