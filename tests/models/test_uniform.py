"""The parameter-free mix: unit norm, every tap and timestep counts the same, scales undo the codes."""

import torch

from uldscale.models.uniform import uniform_descriptors


def features() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    random = torch.Generator().manual_seed(0)
    maps = {
        "r04": torch.randint(-100, 100, (2, 3, 2, 5, 4, 4), generator=random).to(torch.int8),
        "r08": torch.randint(-100, 100, (2, 3, 1, 4, 8, 8), generator=random).to(torch.int8),
    }
    return maps, {"r04": torch.rand(2, 5, generator=random), "r08": torch.rand(1, 4, generator=random)}


def test_at_the_centre_of_a_cell_it_is_that_cell() -> None:
    maps, scales = features()
    point = torch.tensor([2.5 / 8, 5.5 / 8]).expand(2, 1, 2)
    found = uniform_descriptors({"r08": maps["r08"]}, scales, point)
    values = maps["r08"][:, :, :, :, 5, 2].float() * scales["r08"]
    expected = (values / values.norm(dim=-1, keepdim=True)).flatten(1) / 3**0.5
    torch.testing.assert_close(found[:, 0], expected)


def test_unit_norm_whatever_the_scale_of_a_tap() -> None:
    maps, scales = features()
    points = torch.rand(2, 7, 2, generator=torch.Generator().manual_seed(1))
    found = uniform_descriptors(maps, scales, points)
    assert found.shape == (2, 7, 3 * (2 * 5 + 4))
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(2, 7))
    louder = {"r04": scales["r04"] * 10, "r08": scales["r08"]}
    torch.testing.assert_close(uniform_descriptors(maps, louder, points), found)
