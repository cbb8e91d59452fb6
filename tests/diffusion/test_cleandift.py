"""CleanDIFT with random weights: which maps, at which timestep, and what keeps it apart from the model it was made from."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from uldscale.diffusion import codec as codecs
from uldscale.diffusion.backbone import Backbone, BackboneConfig
from uldscale.diffusion.extractor import Extractor, FeatureConfig
from uldscale.errors import ConfigError

CLEAN = {"mode": "clean", "timesteps": (261,)}


def load(model: Path | str, **settings: str) -> Backbone:
    return Backbone.load(BackboneConfig(model=str(model), kind="cleandift", **settings))


def test_maps_are_those_of_its_authors() -> None:
    """`feature_dims` of their configuration, from mid to us10, at 768 px: layers end in attention, levels in their upsampler."""
    outline = Backbone.outline(BackboneConfig(model="random-cleandift-sd21"))
    found = outline.describe(outline.tap_names, 768)
    assert [tap.channels for tap in found] == [1280] * 7 + [640] * 3 + [320]
    assert [tap.side for tap in found] == [12] * 3 + [24] * 3 + [48] * 3 + [96] * 2
    assert [name for name in outline.tap_names if "up_blocks.1" in name] == [
        "up_blocks.1.attentions.0",
        "up_blocks.1.attentions.1",
        "up_blocks.1.upsamplers.0",
    ]
    assert outline.tap_names[:3] == ("mid_block", "up_blocks.0.resnets.0", "up_blocks.0.resnets.1")
    assert outline.tap_names[-1] == "up_blocks.3.attentions.0"


def test_features_are_outputs_of_one_plain_call_at_261(ldm: Path) -> None:
    """Clean latents, the prompt, and blocks seen by hooks of our own."""
    model = load(ldm)
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    found = Extractor(model, FeatureConfig(**CLEAN, batch=2)).raw(images, list("abc"))
    assert list(found) == ["mid_block", "up_blocks.0.attentions.0", "up_blocks.0.upsamplers.0"]
    unet: UNet2DConditionModel = model.unet
    seen: dict[str, Tensor] = {}
    for name in found:
        unet.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: seen.update(
                {name: output[0] if isinstance(output, tuple) else output}
            )
        )
    with torch.no_grad():
        latents = model.latents(torch.from_numpy(images).movedim(-1, 1) / 127.5 - 1)
        unet(latents, torch.tensor([261] * 3), model.prompt_embeds.expand(3, -1, -1))
    for name, maps in found.items():
        torch.testing.assert_close(maps[:, 0], seen[name], atol=1e-5, rtol=1e-4)
    assert [(tap.channels, tap.side) for tap in model.describe(list(found), 16)] == [
        tuple(maps.shape[2:4]) for maps in found.values()
    ]


def test_the_same_bytes_in_any_company(ldm: Path) -> None:
    extractor = Extractor(load(ldm), FeatureConfig(**CLEAN, batch=4))
    images, ids = np.random.default_rng(0).integers(0, 256, (7, 16, 16, 3), np.uint8), list("abcdefg")
    codec = codecs.fit_all(extractor.sample(images, ids, 1000), 20)
    whole, alone = extractor.encode(images, ids, codec), extractor.encode(images[5:6], ids[5:6], codec)
    assert all((alone[name][0] == maps[5]).all() for name, maps in whole.items())


@pytest.mark.parametrize(
    "settings", [{}, {"mode": "inversion", "timesteps": (-1, 20)}, {"mode": "clean", "timesteps": (0,)}]
)
def test_noise_and_other_timesteps_are_refused(ldm: Path, settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"features\..*extract\.features\.timesteps=\[261\]$"):
        Extractor(load(ldm), FeatureConfig(**settings))


@pytest.mark.parametrize("codec", [{"kind": "none", "position": "keep"}, {"channels": 1000, "position": "keep"}])
def test_maps_of_one_side_that_no_array_can_hold(codec: dict[str, object]) -> None:
    outline = Backbone.outline(BackboneConfig(model="random-cleandift-sd21"))
    with pytest.raises(ConfigError, match=r"has 640 channels and up_blocks\.1\.upsamplers\.0 1\d+, .* at most 640$"):
        Extractor(outline, FeatureConfig.model_validate({**CLEAN, "codec": codec})).tap_specs(512)


def test_it_is_another_model_than_the_one_with_the_same_weights(ldm: Path) -> None:
    """A store of the one is refused by the other."""
    ours, plain = load(ldm), Backbone.load(BackboneConfig(model=str(ldm)))
    assert ours.weight_hash != plain.weight_hash
    assert Backbone.outline(BackboneConfig(model=str(ldm), kind="cleandift")).weight_hash == ours.weight_hash


def test_random_weights_have_their_kind_in_their_name() -> None:
    outline = Backbone.outline(BackboneConfig(model="random-cleandift-sd15"))
    assert outline.clean_timestep == 261
    with pytest.raises(ConfigError, match=r"backbone\.kind: cleandift, but random-sd15 is of kind stable-diffusion"):
        load("random-sd15")
