import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from uldscale.models.keypoints import KeypointConfig, detect, inside_border, sample, suppression_radius

ONLY = KeypointConfig(minimum=0)


def gaussian(grid: int, x: float, y: float, sigma: tuple[float, float] = (1.0, 1.0), turn: float = 0.0) -> Tensor:
    """A map with its only peak at (x, y) cells from the upper left corner."""
    centres = torch.arange(grid, dtype=torch.float64) + 0.5
    dx, dy = centres[None, :] - x, centres[:, None] - y
    along, across = math.cos(turn) * dx + math.sin(turn) * dy, math.cos(turn) * dy - math.sin(turn) * dx
    return torch.exp(-(along**2) / (2 * sigma[0] ** 2) - across**2 / (2 * sigma[1] ** 2))[None, None]


def spikes(grid: int, *cells: tuple[int, int, float]) -> Tensor:
    heat = torch.zeros(1, 1, grid, grid)
    for row, column, value in cells:
        heat[0, 0, row, column] = value
    return heat


def cells_of(heat: Tensor, config: KeypointConfig = ONLY, inside: Tensor | None = None) -> list[tuple[int, int]]:
    points, _, valid = detect(heat, config, inside)
    grid = heat.shape[-1]
    return [(int(y * grid), int(x * grid)) for x, y in points[0][valid[0]].tolist()]


@pytest.mark.parametrize("shape", [((1.0, 1.0), 0.0), ((0.7, 1.6), 0.0), ((0.8, 2.0), 0.6)])
@pytest.mark.parametrize("centre", [(20.5, 40.5), (20.9, 40.1), (20.2, 40.7), (20.55, 40.49)])
def test_finds_the_centre_of_a_gaussian_exactly(
    shape: tuple[tuple[float, float], float], centre: tuple[float, float]
) -> None:
    points, _, valid = detect(gaussian(64, *centre, *shape), ONLY)
    assert valid.sum() == 1
    assert torch.allclose(points[0, 0] * 64, torch.tensor(centre), atol=2e-3)


@pytest.mark.parametrize(
    ("step", "kept"), [((0, 3), 1), ((3, 3), 1), ((2, 3), 1), ((0, 4), 2), ((4, 0), 2), ((4, 4), 2)]
)
def test_peaks_stay_when_four_cells_apart(step: tuple[int, int], kept: int) -> None:
    heat = spikes(64, (30, 30, 0.9), (30 + step[0], 30 + step[1], 0.8))
    assert cells_of(heat) == [(30, 30), (30 + step[0], 30 + step[1])][:kept]


@pytest.mark.parametrize(("grid", "radius"), [(16, 2), (32, 2), (64, 4), (128, 8)])
def test_radius_scales_with_the_grid(grid: int, radius: int) -> None:
    assert suppression_radius(KeypointConfig(), grid) == radius
    assert len(cells_of(spikes(grid, (5, 3, 0.9), (5, 3 + radius, 0.8)))) == 2
    assert len(cells_of(spikes(grid, (5, 3, 0.9), (5, 2 + radius, 0.8)))) == 1


def test_of_equal_neighbours_the_first_in_raster_order_stays() -> None:
    assert cells_of(spikes(64, (30, 30, 0.9), (30, 32, 0.9), (32, 29, 0.9))) == [(30, 30)]
    assert cells_of(torch.ones(1, 1, 64, 64)) == [(0, 0)]
    points, _, valid = detect(spikes(64, (30, 30, 0.9), (30, 31, 0.9)), ONLY)
    assert valid.sum() == 1
    assert torch.allclose(points[0, 0] * 64, torch.tensor([31.0, 30.5]))


def test_equals_the_definition_written_out() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randint(0, 30, (4, 1, 20, 20), generator=generator) / 30
    config = KeypointConfig(threshold=0.5, radius=10, minimum=0, maximum=400)
    radius = suppression_radius(config, 20)
    _, scores, valid = detect(maps, config)
    for heat, found, kept in zip(maps[:, 0], scores, valid, strict=True):
        cells = list(itertools.product(range(20), repeat=2))
        near = {
            (row, column): [(r, c) for r, c in cells if max(abs(r - row), abs(c - column)) < radius]
            for row, column in cells
        }
        highest = [cell for cell in sorted(near) if heat[cell] == max(heat[other] for other in near[cell])]
        first = [cell for cell in highest if cell == min(other for other in near[cell] if other in highest)]
        wanted = sorted((float(heat[cell]) for cell in first if heat[cell] > 0.5), reverse=True)
        assert found[kept].tolist() == wanted
        assert len(wanted) > 3


def test_keypoints_are_sorted_padded_and_independent_of_the_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    heat = torch.rand(5, 1, 32, 32, generator=generator) * torch.tensor([1.0, 0.9, 0.5, 0.2, 0.1])[:, None, None, None]
    config = KeypointConfig(maximum=30, minimum=4)
    points, scores, valid = detect(heat, config)
    assert points.shape == (5, 30, 2)
    assert scores.shape == valid.shape == (5, 30)
    assert (scores.diff(dim=1) <= 0).all()
    assert (valid.sum(1) >= 4).all()
    assert not valid[4, 4:].any()
    assert torch.equal(points.isnan(), ~valid[..., None].expand(-1, -1, 2))
    assert (scores[~valid] == 0).all()
    for image in range(5):
        for ours, theirs in zip((points, scores, valid), detect(heat[image : image + 1], config), strict=True):
            assert torch.equal(ours[image].nan_to_num(), theirs[0].nan_to_num())


def test_mirrored_maps_give_mirrored_points() -> None:
    heat = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    points, mirrored = detect(heat, ONLY).points, detect(heat.flip(-1), ONLY).points
    assert torch.allclose(points * torch.tensor([-1, 1]) + torch.tensor([1, 0]), mirrored, atol=1e-5, equal_nan=True)


def test_threshold_minimum_and_maximum() -> None:
    heat = spikes(64, (10, 10, 0.5), (20, 20, 0.15), (30, 30, 0.1), (40, 40, 0.6))
    assert cells_of(heat) == [(40, 40), (10, 10)]
    assert cells_of(heat, ONLY.updated(minimum=3)) == [(40, 40), (10, 10), (20, 20)]
    assert cells_of(heat, ONLY.updated(maximum=1)) == [(40, 40)]
    tiny = detect(torch.rand(1, 1, 4, 4), KeypointConfig(maximum=50))
    assert tiny.points.shape == (1, 50, 2)
    assert 1 <= tiny.valid.sum() <= 4


def test_a_peak_outside_the_region_is_dropped_and_leaves_no_ghost() -> None:
    heat = gaussian(64, 30.5, 30.5, (3.0, 3.0)) + gaussian(64, 50.5, 50.5)
    inside = torch.ones(1, 64, 64, dtype=torch.bool)
    inside[:, :32, :32] = False
    assert cells_of(heat, inside=inside) == [(50, 50)]
    assert cells_of(heat, ONLY.updated(minimum=5), inside=torch.zeros_like(inside)) == []


@pytest.mark.parametrize(("border", "rim"), [(0.0, 0), (0.06, 0), (0.07, 1), (0.1875, 1), (0.2, 2), (0.6, 4)])
def test_inside_border_counts_cells_by_their_centre(border: float, rim: int) -> None:
    inside = inside_border(torch.zeros(3, 1, 8, 8), border)
    wanted = torch.zeros(8, 8, dtype=torch.bool)
    wanted[rim : 8 - rim, rim : 8 - rim] = True
    assert inside.shape == (3, 8, 8)
    assert (inside == wanted).all()


@pytest.mark.parametrize("cell", [(0, 0), (0, 20), (20, 63), (63, 63)])
def test_a_peak_on_the_border_stays_on_its_cell(cell: tuple[int, int]) -> None:
    heat = gaussian(64, cell[1] + 0.5, cell[0] + 0.5)
    points = detect(heat, ONLY).points[0, 0]
    assert torch.allclose(points * 64 - 0.5, torch.tensor([cell[1], cell[0]]).float(), atol=1e-4)


def test_a_peak_never_leaves_its_cell() -> None:
    # A ridge along the diagonal, nearly flat: the fit alone would put its top thirty cells away.
    heat = torch.full((1, 1, 64, 64), 1e-3)
    heat[0, 0, 30:33, 40:43] = torch.tensor([[-1e-4, -0.8, -1.98], [-0.8, 0.0, -0.2], [-1.98, -0.2, -1e-4]]).exp()
    points = detect(heat, ONLY.updated(maximum=1)).points[0, 0]
    assert torch.allclose(points * 64, torch.tensor([42.0, 32.0]))


def test_samples_cells_bilinearly_with_unit_norm() -> None:
    maps = torch.nn.functional.normalize(torch.randn(2, 5, 8, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    points = torch.tensor([[[2.5, 6.5], [3.0, 6.5], [0.1, 0.2]]]).expand(2, -1, -1) / 8
    at_centre, between, at_border = sample(maps, points).unbind(1)
    assert torch.allclose(at_centre, maps[:, :, 6, 2], atol=1e-6)
    assert torch.allclose(between, torch.nn.functional.normalize(maps[:, :, 6, 2] + maps[:, :, 6, 3]), atol=1e-6)
    assert torch.allclose(at_border, maps[:, :, 0, 0], atol=1e-6)


def test_missing_points_give_zeros_and_no_gradient() -> None:
    maps = torch.randn(1, 5, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    descriptors = sample(maps, torch.tensor([[[0.4, 0.6], [torch.nan, torch.nan]]]))
    descriptors[:, :, 0].sum().backward()
    assert torch.allclose(descriptors[0].norm(dim=1), torch.tensor([1.0, 0.0]))
    assert maps.grad is not None
    assert maps.grad.isfinite().all()
    assert sample(maps, torch.full((1, 2, 2), torch.nan)).abs().sum() == 0


def test_dense_keypoints_are_those_of_greedy_suppression() -> None:
    random = torch.Generator().manual_seed(0)
    # A little noise, since greedy suppression is defined by the order of equal cells otherwise.
    heat = functional.interpolate(torch.rand(3, 1, 4, 4, generator=random), (16, 16), mode="bilinear")
    heat = heat + 1e-3 * torch.rand(heat.shape, generator=random)
    found = detect(heat, KeypointConfig(maximum=256), dense=True)
    for image in range(3):
        expected = [heat[image, 0, row, column].item() for row, column in greedy(heat[image, 0], 2)]
        assert found.scores[image][found.valid[image]].tolist() == pytest.approx(expected)


def greedy(heat: Tensor, radius: int) -> list[tuple[int, int]]:
    kept: list[tuple[int, int]] = []
    for cell in heat.flatten().argsort(descending=True).tolist():
        row, column = divmod(cell, heat.shape[-1])
        if all(max(abs(row - r), abs(column - c)) >= radius for r, c in kept):
            kept.append((row, column))
    return kept


def test_dense_keypoints_reach_the_maximum_inside_the_region_whatever_their_heat() -> None:
    heat = torch.full((1, 1, 16, 16), 0.01)
    inside = inside_border(heat, 0.25)
    found = detect(heat, KeypointConfig(maximum=12), inside, dense=True)
    assert found.valid.sum() == 12
    points = found.points[found.valid]
    assert ((points > 0.25) & (points < 0.75)).all()
