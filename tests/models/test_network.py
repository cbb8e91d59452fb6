from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from uldscale.models.aggregator import AggregatorConfig
from uldscale.models.heads import HeadConfig
from uldscale.models.network import Network, NetworkConfig, Outputs
from uldscale.models.pose_vae import VaeConfig

CONFIG = NetworkConfig(
    grid=16,
    aggregator=AggregatorConfig(hidden=8, width=16, upsample_first=False),
    heads=HeadConfig(descriptor=12),
    vae=VaeConfig(latent=6, width=4),
)
SCALES = {"r04": torch.full((2, 5), 0.1), "r08": torch.full((1, 7), 0.2)}
PARTS = ["aggregator", "detector", "descriptor", "encoder", "decoder"]


def features(batch: int = 3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "r04": torch.randint(-127, 128, (batch, 2, 2, 5, 4, 4), generator=generator).to(torch.int8),
        "r08": torch.randint(-127, 128, (batch, 2, 1, 7, 8, 8), generator=generator).to(torch.int8),
    }


def part_of(parameter: str) -> str:
    names = parameter.split(".")
    return names[1] if names[0] == "vae" else names[0]


def total(network: Network, outputs: Outputs) -> Tensor:
    reconstruction = network.vae(outputs.logits.sigmoid(), torch.zeros(3, 6)).logits
    return outputs.logits.square().sum() + outputs.descriptors[:, 0].sum() + reconstruction.square().sum()


def test_outputs_have_the_promised_shapes() -> None:
    network = Network(SCALES, 2, CONFIG)
    outputs = network(features())
    assert outputs.logits.shape == (3, 1, 16, 16)
    assert outputs.descriptors.shape == (3, 12, 16, 16)
    assert network.codes(outputs.logits).shape == (3, 6)


def test_an_image_does_not_depend_on_its_batch() -> None:
    network = Network(SCALES, 2, CONFIG).double()
    together = network(features())
    alone = network({name: values[1:2] for name, values in features().items()})
    assert torch.allclose(together.logits[1:2], alone.logits)
    assert torch.allclose(together.descriptors[1:2], alone.descriptors)
    assert torch.allclose(network.codes(together.logits)[1:2], network.codes(alone.logits))


def test_codes_are_posterior_means_and_teach_the_detector() -> None:
    network = Network(SCALES, 2, CONFIG)
    logits = network(features()).logits
    codes = network.codes(logits)
    assert torch.equal(codes, network.vae.encode(logits.sigmoid())[0])
    codes.square().sum().backward()
    taught = {part_of(name) for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert taught == {"aggregator", "detector", "encoder"}


@pytest.mark.parametrize("parts", [[], ["encoder"], ["aggregator", "detector", "descriptor"], PARTS])
def test_only_the_named_parts_are_trained(parts: list[str]) -> None:
    network = Network(SCALES, 2, CONFIG)
    network.trainable({"decoder"})
    network.trainable(set(parts))  # type: ignore[arg-type]
    if parts:
        total(network, network(features())).backward()
    trained = {part_of(name) for name, parameter in network.named_parameters() if parameter.grad is not None}
    frozen = {part_of(name) for name, parameter in network.named_parameters() if not parameter.requires_grad}
    assert trained == set(parts)
    assert frozen == set(PARTS) - set(parts)


def test_unknown_parts_are_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown parts \['backbone'\]"):
        Network(SCALES, 2, CONFIG).trainable({"detector", "backbone"})  # type: ignore[arg-type]


def test_weights_travel_through_safetensors(tmp_path: Path) -> None:
    network = Network(SCALES, 2, CONFIG)
    save_file(network.state_dict(), tmp_path / "network.safetensors")
    loaded = Network.from_weights(load_file(tmp_path / "network.safetensors"), CONFIG)
    for ours, theirs in zip(network(features()), loaded(features()), strict=True):
        assert torch.equal(ours, theirs)


def test_weights_of_another_network_are_refused() -> None:
    weights = Network(SCALES, 2, CONFIG).state_dict()
    with pytest.raises(RuntimeError, match="size mismatch"):
        Network.from_weights(weights, CONFIG.updated(heads=HeadConfig(descriptor=13)))


def test_runs_in_bfloat16() -> None:
    network = Network(SCALES, 2, CONFIG).bfloat16()
    outputs = network(features())
    total_loss = outputs.logits.float().square().sum() + outputs.descriptors[:, 0].sum()
    total_loss.backward()
    assert outputs.logits.dtype == torch.bfloat16
    assert total_loss.isfinite()
