"""The network Psi on stored features: aggregator, the two heads and the pose VAE (paper figure 2).

Legend: B batch, T timesteps, L taps of one resolution, C channels, G side of the grid, D descriptor size, Z latent
size.
"""

import re
from collections.abc import Collection, Mapping
from typing import Literal, NamedTuple, Self, get_args

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from uldscale.config import Settings
from uldscale.models.aggregator import Aggregator, AggregatorConfig
from uldscale.models.heads import Descriptor, Detector, HeadConfig
from uldscale.models.pose_vae import PoseVae, VaeConfig

Part = Literal["aggregator", "detector", "descriptor", "encoder", "decoder"]


class NetworkConfig(Settings):
    """Shape of the network."""

    grid: int = Field(64, ge=8)
    """Side G of the working grid in cells, a power of two: 64 for crops of 256 to 512 pixels, 32 for 128."""
    aggregator: AggregatorConfig = AggregatorConfig()
    heads: HeadConfig = HeadConfig()
    vae: VaeConfig = VaeConfig()

    @field_validator("grid")
    @classmethod
    def _power_of_two(cls, grid: int) -> int:
        if grid & (grid - 1):
            raise ValueError(f"must be a power of two, got {grid}")
        return grid


class Outputs(NamedTuple):
    """What the heads say about a batch."""

    logits: Tensor
    """(B, 1, G, G); their sigmoid is the heatmap"""
    descriptors: Tensor
    """(B, D, G, G) of unit norm"""

    def promoted(self) -> Self:
        """The same in float32 at least."""
        return type(self)(*(values.to(torch.promote_types(values.dtype, torch.float32)) for values in self))


class Network(nn.Module):
    """Heads and VAE over the aggregator; `scales` {name: (L, C)} are the steps of the stored codes."""

    def __init__(self, scales: Mapping[str, Tensor], num_timesteps: int, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.aggregator = Aggregator(scales, num_timesteps, config.grid, config.aggregator)
        self.detector = Detector(config.aggregator.width)
        self.descriptor = Descriptor(config.aggregator.width, config.heads)
        self.vae = PoseVae(config.grid, config.vae)

    @classmethod
    def from_weights(cls, weights: Mapping[str, Tensor], config: NetworkConfig) -> Self:
        """The network of a state dict, which holds steps and timesteps. Raises RuntimeError for that of another."""
        steps = re.compile(r"aggregator\.resolutions\.(\w+)\.steps")
        scales = {found[1]: value for name, value in weights.items() if (found := steps.fullmatch(name))}
        network = cls(scales, weights["aggregator.mixing"].shape[1], config)
        network.load_state_dict(dict(weights))
        return network

    def forward(self, features: Mapping[str, Tensor]) -> Outputs:
        """Logits and descriptors of stored features {name: (B, T, L, C, H, W)}. Raises ValueError for other shapes."""
        maps = self.aggregator(features)
        return Outputs(self.detector(maps), self.descriptor(maps))

    def codes(self, logits: Tensor) -> Tensor:
        """Pose codes (B, Z): the mean of the posterior, without sampling. The gradient flows on to the logits."""
        mean, _ = self.vae.encode(logits.sigmoid())
        return mean

    def trainable(self, parts: Collection[Part]) -> None:
        """Train the named parts and freeze the others. Raises ValueError for an unknown name."""
        unknown = set(parts) - set(get_args(Part))
        if unknown:
            raise ValueError(f"unknown parts {sorted(unknown)}; the parts are {list(get_args(Part))}")
        for name in get_args(Part):
            self._part(name).requires_grad_(name in parts)

    def _part(self, name: Part) -> nn.Module:
        return self.get_submodule(f"vae.{name}" if name in ("encoder", "decoder") else name)
