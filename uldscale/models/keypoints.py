"""Keypoints of a heatmap and the descriptors at them.

A keypoint is the largest cell among all at Chebyshev distance below the radius. All images of a batch at once, one shot
of max-pooling: it differs from greedy suppression only in chains of nearby peaks. Positions are refined by a quadratic
fit to the logarithm of the 3x3 neighbourhood, which finds the centre of a Gaussian exactly; a cell of a 64 grid on a
256 pixel crop would otherwise cost 1.5 pixels.

Legend: B batch, G side of the grid, M keypoints of an image (padded), D descriptor size.
Source: non-maximum suppression of paper section 3.2; threshold and radius as in Mallis et al. (paper reference 32).
"""

from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from uldscale.config import Settings

_SPREADS = 16  # rounds of suppression: on smooth random maps of 32 cells 12 rounds leave 7 % of the cells, 16 leave 1 %
_NO_PEAK = -1.0  # below every heat
_FAINT = 1e-6  # least heat whose logarithm is taken
_FLAT = 1e-8  # least curvature (determinant of the Hessian of the log heat) that places a peak


class KeypointConfig(Settings):
    """Which cells of a heatmap are keypoints, and which places landmarks."""

    threshold: float = Field(0.15, ge=0, lt=1)
    """Heat that a keypoint must exceed."""
    radius: int = Field(4, ge=1)
    """Least Chebyshev distance of two keypoints, in cells of a 64 grid; scaled with the grid, but at least 2 cells."""
    maximum: int = Field(64, ge=1)
    """Most keypoints of an image."""
    minimum: int = Field(10, ge=0)
    """So many of the highest peaks are kept whatever their heat."""
    source: Literal["landmarks", "peaks"] = "landmarks"
    """What is clustered: in the first round cells, then each landmark of the round before in its best cell; or, as in the paper, what
    non-maximum suppression leaves, in every round and in the detector."""
    visible: float = Field(0.05, ge=0, lt=1)
    """Score (heat times agreement of the descriptor) below which a landmark counts as missing."""


class Keypoints(NamedTuple):
    """Keypoints of a batch, highest first, padded to M = the maximum."""

    points: Tensor
    """(B, M, 2) unit coordinates (x, y); NaN where not valid"""
    scores: Tensor
    """(B, M) heat of the cell; 0 where not valid"""
    valid: Tensor
    """(B, M) bool"""


def detect(heat: Tensor, config: KeypointConfig, inside: Tensor | None = None, *, dense: bool = False) -> Keypoints:
    """Keypoints of heatmaps (B, 1, G, G) with values in [0, 1]; `inside` (B, G, G) bool rejects peaks outside a region.

    `dense`: cells need not be peaks, and no heat is too low: the highest is kept, then the highest outside its neighbourhood, and so
    on (greedy suppression). The heatmap of a bootstrapped detector is smooth and has some 8 peaks, which miss parts of the object.

    The region is applied after the suppression: cut before, it would turn the slope of a peak outside into a peak at
    its border. An image with fewer peaks than the minimum gets fewer keypoints. No gradient.
    """
    heat = heat.detach()[:, 0].float()
    grid = heat.shape[-1]
    inside = torch.ones_like(heat, dtype=torch.bool) if inside is None else inside
    radius = suppression_radius(config, grid)
    peaks = _spread(heat, inside, radius) if dense else _peaks(heat, radius) & inside
    # a stable sort, so that equal heats keep raster order on every machine
    candidates = heat.where(peaks, _NO_PEAK).flatten(1)
    scores, cells = (kept[:, : config.maximum] for kept in candidates.sort(dim=1, descending=True, stable=True))
    guaranteed = torch.arange(scores.shape[1], device=heat.device) < (config.maximum if dense else config.minimum)
    valid = (scores > config.threshold) | (guaranteed & (scores > _NO_PEAK))
    points = refine(log_heat(heat), cells).where(valid[..., None], torch.nan)
    return _padded(Keypoints(points, scores.where(valid, 0.0), valid), config.maximum)


def inside_border(maps: Tensor, border: float) -> Tensor:
    """(B, G, G) bool: cells of maps (B, C, G, G) whose centre is at least `border` (in units) from each side."""
    side = maps.shape[-1]
    centres = (torch.arange(side, device=maps.device) + 0.5) / side
    inside = (centres >= border) & (centres <= 1 - border)
    # Not len: torch.export would take the batch at hand for the only one.
    return (inside[:, None] & inside).expand(maps.shape[0], -1, -1)


def suppression_radius(config: KeypointConfig, grid: int) -> int:
    """Least Chebyshev distance of two keypoints on this grid, in cells."""
    return max(2, round(config.radius * grid / 64))


def most_keypoints(config: KeypointConfig, grid: int) -> int:
    """So many an image can have: no two are nearer than the radius."""
    return int(min(config.maximum, (-(-grid // suppression_radius(config, grid))) ** 2))


def sample(descriptors: Tensor, points: Tensor) -> Tensor:
    """Descriptors (B, M, D) of unit norm at points (B, M, 2), bilinear in (B, D, G, G); zeros where a point is NaN."""
    missing = points.isnan().any(-1, keepdim=True)
    places = points.masked_fill(missing, 0.5).to(descriptors.dtype) * 2 - 1
    values = functional.grid_sample(descriptors, places[:, :, None], padding_mode="border", align_corners=False)
    return functional.normalize(values[..., 0].mT, dim=-1).masked_fill(missing, 0.0)


def _peaks(heat: Tensor, radius: int) -> Tensor:
    highest = heat == _pool(heat, radius)
    # Cells of a plateau are all highest: among those within the radius the first in raster order stays.
    order = torch.arange(heat[0].numel(), 0, -1, device=heat.device, dtype=heat.dtype).view_as(heat[0])
    rank = order.where(highest, 0.0)
    return highest & (rank == _pool(rank, radius))


def _spread(heat: Tensor, inside: Tensor, radius: int) -> Tensor:
    """Cells that greedy suppression keeps: the highest, then the highest of what its neighbourhood leaves, and so on."""
    free, chosen = inside, torch.zeros_like(inside)
    for _ in range(_SPREADS):
        found = free & _peaks(heat.where(free, _NO_PEAK), radius)
        chosen = chosen | found
        free = free & (_pool(found.to(heat.dtype), radius) == 0)
    return chosen


def _pool(maps: Tensor, radius: int) -> Tensor:
    return functional.max_pool2d(maps[:, None], 2 * radius - 1, stride=1, padding=radius - 1)[:, 0]


def log_heat(heat: Tensor) -> Tensor:
    """Logarithm of heat in [0, 1], which is finite."""
    return heat.clamp_min(_FAINT).log()


def refine(maps: Tensor, cells: Tensor) -> Tensor:
    """Unit coordinates (B, M, 2) of the peaks of maps (B, G, G) near cells (B, M), numbered in raster order: a quadratic fit to the
    3x3 neighbourhood, at most half a cell away; the centre of a cell at the border.
    """
    grid = maps.shape[-1]
    row, column = cells // grid, cells % grid
    border = (row == 0) | (row == grid - 1) | (column == 0) | (column == grid - 1)
    offset = _quadratic_peak(_neighbourhoods(maps, cells)).masked_fill(border[..., None], 0.0)
    return (torch.stack([column, row], -1) + 0.5 + offset) / grid


def _neighbourhoods(maps: Tensor, cells: Tensor) -> Tensor:
    patches = functional.unfold(functional.pad(maps[:, None], (1, 1, 1, 1), mode="replicate"), 3)
    return patches.gather(2, cells[:, None].expand(-1, 9, -1)).view(cells.shape[0], 3, 3, -1)


def _quadratic_peak(patch: Tensor) -> Tensor:
    # Newton step from the middle of (B, 3 rows, 3 columns, M), with central differences.
    slope_x = (patch[:, 1, 2] - patch[:, 1, 0]) / 2
    slope_y = (patch[:, 2, 1] - patch[:, 0, 1]) / 2
    bend_x = patch[:, 1, 2] - 2 * patch[:, 1, 1] + patch[:, 1, 0]
    bend_y = patch[:, 2, 1] - 2 * patch[:, 1, 1] + patch[:, 0, 1]
    twist = (patch[:, 2, 2] - patch[:, 2, 0] - patch[:, 0, 2] + patch[:, 0, 0]) / 4
    determinant = bend_x * bend_y - twist.square()
    step = torch.stack([twist * slope_y - bend_y * slope_x, twist * slope_x - bend_x * slope_y], -1)
    step = step / determinant.clamp_min(_FLAT)[..., None]
    return step.where((determinant > _FLAT)[..., None], 0.0).clamp(-0.5, 0.5)


def _padded(keypoints: Keypoints, count: int) -> Keypoints:
    extra = count - keypoints.valid.shape[1]  # a small grid has fewer cells than the maximum
    return Keypoints(
        functional.pad(keypoints.points, (0, 0, 0, extra), value=torch.nan),
        functional.pad(keypoints.scores, (0, extra)),
        functional.pad(keypoints.valid, (0, extra)),
    )
