import math

import pytest
import torch

from uldscale.losses.heatmap import heatmap_loss, targets

ALL = torch.ones(1, 1, dtype=torch.bool)


def test_kernel_of_a_point_on_a_cell_is_the_known_one() -> None:
    point = torch.tensor([[[(20 + 0.5) / 64, (30 + 0.5) / 64]]])
    heat = targets(point, ALL, 64, 0.75)[0, 0]
    edge, corner = 0.41111, 0.16901
    kernel = torch.tensor([[corner, edge, corner], [edge, 1.0, edge], [corner, edge, corner]])
    assert heat.shape == (64, 64)
    assert torch.allclose(heat[29:32, 19:22], kernel, atol=1e-5)


def test_equals_the_definition_cell_by_cell() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(3, 5, 2, generator=generator, dtype=torch.float64) * 1.4 - 0.2
    points[0, 1] = torch.nan
    points[1, 2, 0] = torch.nan
    valid = torch.rand(3, 5, generator=generator) < 0.8
    heat = targets(points, valid, 9, 1.3)
    for image in range(3):
        for row in range(9):
            for column in range(9):
                wanted = 0.0
                for (x, y), usable in zip(points[image].tolist(), valid[image].tolist(), strict=True):
                    if usable and 0 <= x <= 1 and 0 <= y <= 1:
                        square = (x * 9 - column - 0.5) ** 2 + (y * 9 - row - 0.5) ** 2
                        wanted = max(wanted, math.exp(-square / (2 * 1.3**2)))
                assert math.isclose(heat[image, 0, row, column].item(), wanted, abs_tol=1e-12)


def test_nothing_to_draw_is_an_empty_map() -> None:
    assert not targets(torch.rand(2, 3, 2), torch.zeros(2, 3, dtype=torch.bool), 8, 1.0).any()
    assert targets(torch.rand(2, 0, 2), torch.ones(2, 0, dtype=torch.bool), 8, 1.0).shape == (2, 1, 8, 8)


@pytest.mark.parametrize("positive_weight", [1.0, 10.0])
def test_loss_is_the_weighted_squared_error(positive_weight: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 1, 6, 6, generator=generator, dtype=torch.float64).requires_grad_()
    target = torch.rand(2, 1, 6, 6, generator=generator, dtype=torch.float64)
    errors = [
        (1 + (positive_weight - 1) * t) * (1 / (1 + math.exp(-x)) - t) ** 2
        for x, t in zip(logits.flatten().tolist(), target.flatten().tolist(), strict=True)
    ]
    loss = heatmap_loss(logits, target, positive_weight)
    assert math.isclose(loss.item(), sum(errors) / len(errors))
    assert torch.autograd.gradcheck(lambda x: heatmap_loss(x, target, positive_weight), logits)
    assert heatmap_loss(target.logit(), target, positive_weight) < 1e-12
