import pytest
import torch

from uldscale.models.heads import Descriptor, Detector, HeadConfig, ResidualBlock


def maps(width: int = 16, grid: int = 16) -> torch.Tensor:
    return torch.randn(3, width, grid, grid, generator=torch.Generator().manual_seed(0)).relu()


@pytest.mark.parametrize("width", [16, 64, 384])
def test_detector_starts_near_the_share_of_landmark_cells(width: int) -> None:
    torch.manual_seed(0)
    logits = Detector(width)(maps(width))
    assert logits.shape == (3, 1, 16, 16)
    assert 0.05 < logits.sigmoid().mean() < 0.1
    assert logits.sigmoid().max() < 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_descriptors_have_unit_norm(dtype: torch.dtype) -> None:
    descriptors = Descriptor(16, HeadConfig(descriptor=12)).to(dtype)(maps().to(dtype))
    assert descriptors.shape == (3, 12, 16, 16)
    assert torch.allclose(descriptors.norm(dim=1), torch.ones(3, 16, 16), atol=1e-5)


def test_residual_block_chains_its_convolutions() -> None:
    block = ResidualBlock(16)
    first = block.steps[0](maps())
    second = block.steps[1](first)
    third = block.steps[2](second)
    assert [part.shape[1] for part in (first, second, third)] == [8, 4, 4]
    assert torch.equal(block(maps()), maps() + torch.cat([first, second, third], 1))


def test_heads_share_nothing_and_all_of_them_learns() -> None:
    detector, descriptor = Detector(16), Descriptor(16, HeadConfig(descriptor=12))
    (detector(maps()).square().mean() + descriptor(maps())[:, 0].mean()).backward()
    parameters = [*detector.parameters(), *descriptor.parameters()]
    assert len({id(parameter) for parameter in parameters}) == len(parameters)
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in parameters)
