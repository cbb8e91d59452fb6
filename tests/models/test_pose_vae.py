import pytest
import torch
from torch.nn import functional

from uldscale.models.pose_vae import PoseVae, VaeConfig

SMALL = VaeConfig(latent=6, width=4)


@pytest.mark.parametrize("grid", [8, 16, 32, 64, 128])
def test_takes_every_grid_that_is_a_power_of_two(grid: int) -> None:
    vae = PoseVae(grid, SMALL)
    heat = torch.rand(2, 1, grid, grid)
    logits, mean, log_variance = vae(heat, torch.zeros(2, 6))
    assert logits.shape == heat.shape
    assert mean.shape == log_variance.shape == (2, 6)


@pytest.mark.parametrize("grid", [4, 7, 48, 100])
def test_other_grids_are_refused(grid: int) -> None:
    with pytest.raises(ValueError, match=f"power of two, at least 8, but is {grid}"):
        PoseVae(grid, SMALL)


def test_default_channels_are_32_to_256() -> None:
    vae = PoseVae(64, VaeConfig())
    convolutions = [module for module in vae.modules() if isinstance(module, torch.nn.Conv2d)]
    assert [convolution.out_channels for convolution in convolutions] == [32, 64, 128, 256, 128, 64, 32, 32, 1]
    assert 1.4e6 < sum(parameter.numel() for parameter in vae.parameters()) < 1.8e6


def test_decoder_starts_almost_empty() -> None:
    torch.manual_seed(0)
    heat = PoseVae(32, VaeConfig(width=8)).decode(torch.randn(4, 64)).sigmoid()
    assert 0.02 < heat.mean() < 0.12


def test_noise_moves_the_code_by_the_posterior_deviation() -> None:
    vae = PoseVae(16, SMALL).double()
    heat, noise = torch.rand(3, 1, 16, 16).double(), torch.randn(3, 6).double()
    mean, log_variance = vae.encode(heat)
    assert torch.allclose(vae(heat, torch.zeros_like(mean)).logits, vae.decode(mean))
    assert torch.allclose(vae(heat, noise).logits, vae.decode(mean + log_variance.exp().sqrt() * noise))


def test_learns_to_tell_heatmaps_apart() -> None:
    torch.manual_seed(0)
    vae = PoseVae(16, VaeConfig(latent=4, width=8))
    heat = torch.zeros(4, 1, 16, 16)
    heat[range(4), 0, [3, 3, 12, 12], [3, 12, 3, 12]] = 1.0
    optimizer = torch.optim.Adam(vae.parameters(), 3e-3)
    for _ in range(80):
        loss = functional.binary_cross_entropy_with_logits(vae(heat, torch.zeros(4, 4)).logits, heat, 1 + 20 * heat)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert torch.equal(vae.decode(vae.encode(heat)[0]).flatten(1).argmax(1), heat.flatten(1).argmax(1))
