import pytest
import torch
from torch import Tensor
from torch.nn import functional

from uldscale.models.keypoints import KeypointConfig, detect, inside_border
from uldscale.models.landmarks import Placing, centre_of_mass, exemplars, find, locate, vertex

GRID, LOOKS = 16, torch.eye(4)


def gaussians(places: list[tuple[float, float]], heights: list[float]) -> Tensor:
    """A heatmap (1, 1, 16, 16) with Gaussians of one cell at unit coordinates."""
    centres = (torch.arange(GRID) + 0.5) / GRID
    squares = [((centres - x)[None] ** 2 + (centres - y)[:, None] ** 2) * GRID**2 for x, y in places]
    bumps = [height * torch.exp(-square / 2) for square, height in zip(squares, heights, strict=True)]
    return torch.stack(bumps).amax(0)[None, None]


def looks(places: list[tuple[float, float]], which: list[int]) -> Tensor:
    """Descriptors (1, 4, 16, 16): the look `which` of the nearest place."""
    centres = (torch.arange(GRID) + 0.5) / GRID
    squares = torch.stack([(centres - x)[None] ** 2 + (centres - y)[:, None] ** 2 for x, y in places])
    return LOOKS[torch.tensor(which)[squares.argmin(0)]].permute(2, 0, 1)[None]


def everywhere() -> Tensor:
    return torch.ones(1, GRID, GRID, dtype=torch.bool)


@pytest.mark.parametrize("place", [centre_of_mass, vertex])
def test_landmarks_are_found_where_heat_and_look_agree(place: Placing) -> None:
    places = [(0.31, 0.42), (0.7, 0.66)]
    found = locate(gaussians(places, [0.9, 0.4]), looks(places, [0, 1]), LOOKS[None, :2], everywhere(), 0.05, place)
    assert torch.allclose(found.points[0], torch.tensor(places), atol=1e-3)
    assert torch.allclose(found.scores[0], torch.tensor([0.9, 0.4]), rtol=0.2), "the height at the centre of a cell"
    assert torch.allclose(found.descriptors[0], LOOKS[:2], atol=1e-5)


def test_a_faint_landmark_beside_a_strong_one_stays_where_it_is() -> None:
    places = [(0.46875, 0.5), (0.59375, 0.5)]  # two cells apart
    found = locate(gaussians(places, [0.9, 0.3]), looks(places, [0, 1]), LOOKS[None, :2], everywhere(), 0.05)
    assert torch.allclose(found.points[0], torch.tensor(places), atol=0.5 / GRID)


def test_a_landmark_without_heat_is_missing() -> None:
    places = [(0.3, 0.4), (0.7, 0.7)]
    found = locate(gaussians(places, [0.9, 0.001]), looks(places, [0, 1]), LOOKS[None, :2], everywhere(), 0.05)
    assert found.points[0, 0].isfinite().all()
    assert found.points[0, 1].isnan().all()
    assert found.scores[0, 1] == 0
    assert (found.descriptors[0, 1] == 0).all()


def test_nothing_is_found_outside() -> None:
    places = [(0.05, 0.5), (0.6, 0.5)]
    heat, maps = gaussians(places, [0.9, 0.4]), looks(places, [0, 0])
    found = locate(heat, maps, LOOKS[None, :1], inside_border(heat, 0.2), 0.05)
    assert torch.allclose(found.points[0, 0], torch.tensor(places[1]), atol=1e-3)


def test_every_image_has_centroids_of_its_own() -> None:
    places = [(0.3, 0.4), (0.7, 0.7)]
    heat, maps = gaussians(places, [0.9, 0.9]).expand(2, -1, -1, -1), looks(places, [0, 1]).expand(2, -1, -1, -1)
    both = locate(heat, maps, torch.stack([LOOKS[:2], LOOKS[[1, 0]]]), everywhere().expand(2, -1, -1), 0.05)
    assert torch.equal(both.points[0], both.points[1].flip(0))


def test_landmarks_are_those_of_a_plain_search() -> None:
    random = torch.Generator().manual_seed(0)
    heat = torch.rand(3, 1, GRID, GRID, generator=random)
    maps = functional.normalize(torch.randn(3, 4, GRID, GRID, generator=random), dim=1)
    centroids = torch.randn(3, 2, 4, generator=random) * 0.5
    found = locate(heat, maps, centroids, torch.ones(3, GRID, GRID, dtype=torch.bool), 0.0)
    for image in range(3):
        for landmark in range(2):
            gap = (maps[image] - centroids[image, landmark][:, None, None]).square().sum(0)
            score = heat[image, 0] * torch.exp(-gap / (2 * 0.4**2))
            assert torch.isclose(found.scores[image, landmark], score.max(), rtol=1e-3)
            assert torch.allclose(found.points[image, landmark], plain_centre(score), atol=1e-4)


def plain_centre(score: Tensor) -> Tensor:
    """(x, y) in unit coordinates of the squared score within three cells of its maximum."""
    row, column = divmod(int(score.argmax()), GRID)
    mass, x, y = 0.0, 0.0, 0.0
    for i in range(max(0, row - 3), min(GRID, row + 4)):
        for j in range(max(0, column - 3), min(GRID, column + 4)):
            weight = float(score[i, j]) ** 2
            mass, x, y = mass + weight, x + weight * (j + 0.5), y + weight * (i + 0.5)
    return torch.tensor([x, y]) / (mass * GRID)


def test_an_exemplar_is_the_nearest_of_the_peaks_that_are_nearest_to_its_centroid() -> None:
    """Two peaks look like the first landmark, one more than the other; none looks like the third."""
    places = [(0.22, 0.22), (0.78, 0.22), (0.5, 0.78)]
    heat, maps = gaussians(places, [0.9, 0.8, 0.7]), looks(places, [0, 0, 1])
    maps[:, :, :8, 8:] = torch.tensor([0.8, 0.6, 0.0, 0.0])[:, None, None]
    config = KeypointConfig(source="peaks", radius=8, minimum=3, maximum=3)
    found = find(heat, maps, LOOKS[None, :3], everywhere(), config)
    assert torch.allclose(found.points[0, :2], torch.tensor([places[0], places[2]]), atol=0.02)
    assert found.points[0, 2].isnan().all()
    assert found.scores[0, 2] == 0
    same = exemplars(detect(heat, config, everywhere()), maps, LOOKS[None, :3])
    assert torch.equal(same.scores, found.scores)
