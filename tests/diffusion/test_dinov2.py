"""DINOv2 with random weights: its maps against transformers, and what it refuses."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from transformers import BitImageProcessor, Dinov2Backbone, Dinov2Config

from uldscale.diffusion import codec as codecs
from uldscale.diffusion.backbone import Backbone, BackboneConfig
from uldscale.diffusion.codec import CodecConfig
from uldscale.diffusion.cost import measure
from uldscale.diffusion.extractor import Extractor, FeatureConfig
from uldscale.errors import ConfigError, ModelError

IDS = list("abcdefg")
NAMES = ["encoder.layer.0", "encoder.layer.1", "encoder.layer.2"]


def load(model: Path | str, **settings: str) -> Backbone:
    return Backbone.load(BackboneConfig(model=str(model), **settings))


def make(backbone: Backbone, **settings: object) -> Extractor:
    settings.setdefault("codec", CodecConfig(channels=20))
    return Extractor(backbone, FeatureConfig(**{"mode": "clean", "timesteps": (0,), "batch": 4, **settings}))


@pytest.fixture(scope="module")
def backbone(dino: Path) -> Backbone:
    return load(dino)


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (7, 20, 20, 3), np.uint8)


def test_maps_are_those_of_the_library(dino: Path, backbone: Backbone, images: NDArray[np.uint8]) -> None:
    """As its backbone gives them, of pixels as the processor normalises them; 5 x 5 patches, trained with 3 x 3."""
    found = make(backbone).raw(images, IDS)
    theirs = Dinov2Backbone.from_pretrained(str(dino), out_features=["stage1", "stage2", "stage3"]).eval()
    processor = BitImageProcessor.from_pretrained(str(dino), do_resize=False, do_center_crop=False)
    with torch.no_grad():
        expected = theirs(**processor(list(images), return_tensors="pt")).feature_maps
    assert list(found) == NAMES
    for maps, wanted in zip(found.values(), expected, strict=True):
        assert maps.shape == (7, 1, 32, 5, 5)
        torch.testing.assert_close(maps[:, 0], wanted, atol=1e-4, rtol=1e-3)


def test_chosen_layers_and_nothing_after_them(backbone: Backbone, images: NDArray[np.uint8]) -> None:
    calls: list[int] = []
    hooks = [
        layer.register_forward_pre_hook(lambda module, inputs, number=number: calls.append(number))
        for number, layer in enumerate(backbone.model.encoder.layer)
    ]
    found = make(backbone, taps=(NAMES[1],), batch=8).raw(images, IDS)
    for hook in hooks:
        hook.remove()
    assert calls == [0, 1]
    assert torch.equal(found[NAMES[1]], make(backbone, batch=8).raw(images, IDS)[NAMES[1]])


def test_specs_and_bytes(backbone: Backbone, images: NDArray[np.uint8]) -> None:
    """An image gives the same bytes alone and in company."""
    extractor = make(backbone)
    assert extractor.tap_specs(20) == [(name, 20, 5) for name in NAMES]
    codec = codecs.fit_all(extractor.sample(images, IDS, 1000), 20)
    whole, alone = extractor.encode(images, IDS, codec), extractor.encode(images[5:6], IDS[5:6], codec)
    assert whole["r05"].shape == (7, 1, 3, 20, 5, 5)
    assert (alone["r05"][0] == whole["r05"][5]).all()


def test_bfloat16_and_compiled_parts_are_close(dino: Path, backbone: Backbone, images: NDArray[np.uint8]) -> None:
    plain = make(backbone).raw(images, IDS)[NAMES[2]]
    half = make(load(dino, dtype="bfloat16")).raw(images, IDS)[NAMES[2]]
    assert (half - plain).square().mean() < 1e-3 * plain.var()
    compiled = load(dino)
    torch.testing.assert_close(make(compiled, compile=True).raw(images, IDS)[NAMES[2]], plain, atol=1e-4, rtol=1e-3)
    assert compiled.model.encoder.layer[0].mlp._compiled_call_impl is not None


@pytest.mark.parametrize(
    ("name", "parameters", "layers"),
    [("small", 22_056_576, 12), ("base", 86_580_480, 12), ("large", 304_368_640, 24), ("giant", 1_136_480_768, 40)],
)
def test_public_sizes(name: str, parameters: int, layers: int) -> None:
    """Parameters of the published checkpoints."""
    outline = Backbone.outline(BackboneConfig(model=f"random-dinov2-{name}"))
    assert outline.num_parameters == parameters
    assert len(outline.tap_names) == layers
    assert (outline.image_multiple, outline.weight_hash) == (14, f"random-dinov2-{name}-1")


def test_cost_against_a_count_by_hand() -> None:
    """Multiply-adds of a layer at 518 px: 12 width² a token by weights, and 2 tokens width by attention. Each is two operations."""
    config = FeatureConfig(backbone=BackboneConfig(model="random-dinov2-base"), mode="clean", timesteps=(0,))
    found = measure(config, Backbone.outline(config.backbone, weights=False), 518)
    patches = 37**2
    layer = 12 * 768**2 * (patches + 1) + 2 * 768 * (patches + 1) ** 2
    assert found.call_flops == 2 * (3 * 14**2 * 768 * patches + 12 * layer)
    assert (found.latent_flops, found.calls) == (0, 1)
    fewer = config.updated(taps=("encoder.layer.5",))
    assert measure(fewer, Backbone.outline(config.backbone), 518).call_flops < 0.51 * found.call_flops


def test_random_weights_keep_signals_alive() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 3), np.uint8)
    for maps in make(load("random-dinov2-small")).raw(images, ["a", "b"]).values():
        assert 0.5 < maps.std() < 2
        assert not torch.equal(maps[0], maps[1])


def test_hash_depends_on_weights_and_settings(dino: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(dino, tmp_path / "copy"))
    first = load(dino).weight_hash
    assert load(copy).weight_hash == Backbone.outline(BackboneConfig(model=str(copy))).weight_hash == first
    weights = load_file(copy / "model.safetensors")
    save_file({**weights, "layernorm.bias": weights["layernorm.bias"] + 1}, copy / "model.safetensors")
    second = load(copy).weight_hash
    (copy / "config.json").write_text(
        json.dumps({**json.loads((copy / "config.json").read_text()), "layer_norm_eps": 1e-3})
    )
    assert len({first, second, load(copy).weight_hash}) == 3


def test_outline_needs_no_weights(dino: Path, tmp_path: Path) -> None:
    shutil.copy(dino / "config.json", tmp_path)
    outline = Backbone.outline(BackboneConfig(model=str(tmp_path)), weights=False)
    assert outline.device == torch.device("meta")
    assert outline.tap_names == tuple(NAMES)
    with pytest.raises(ModelError, match="has no safetensors, only config.json"):
        Backbone.outline(BackboneConfig(model=str(tmp_path)))


def test_what_it_cannot_do(dino: Path, ldm: Path, backbone: Backbone) -> None:
    with pytest.raises(ConfigError, match=r"mode: noise, .*set extract.features.mode=clean and .*timesteps=\[0\]"):
        make(backbone, mode="noise", timesteps=(50,))
    with pytest.raises(ConfigError, match="data.size: 18, but .* wants a multiple of 4 pixels"):
        make(backbone).tap_specs(18)
    with pytest.raises(ConfigError, match="backbone.prompt: 'a face', but .* is DINOv2 and takes none; leave prompt"):
        load(dino, prompt="a face")
    with pytest.raises(ConfigError, match="backbone.kind: dinov2, but .* is of kind stable-diffusion; leave kind out"):
        load(ldm, kind="dinov2")
    for kind in ("stable-diffusion", "cleandift"):
        with pytest.raises(ConfigError, match=f"backbone.kind: {kind}, but .* is of kind dinov2; leave kind out"):
            load(dino, kind=kind)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"model_type": "clip"}', "holds a model of type 'clip'; wanted dinov2, or unet"),
        ('{"model_type": "dinov2_with_registers"}', "holds a model of type 'dinov2_with_registers'; wanted dinov2"),
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"model_type": "dinov2", "hidden_size": "wide"}', "config.json cannot be read"),
    ],
)
def test_a_folder_of_something_else(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelError, match=message) as caught:
        Backbone.outline(BackboneConfig(model=str(tmp_path)), weights=False)
    assert "\n" not in str(caught.value)


def test_arguments_are_those_of_the_public_configuration() -> None:
    outline = Backbone.outline(BackboneConfig(model="random-dinov2-base"))
    assert isinstance(outline.model.config, Dinov2Config)
    assert outline.model.config.image_size == 518
