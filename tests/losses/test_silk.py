import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from uldscale.losses.silk import correspondences, silk_loss


def turned(degrees: float, scale: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)) -> Tensor:
    """Matrix of a rotation about the centre of the crop, in unit coordinates."""
    angle = math.radians(degrees)
    matrix = torch.eye(3)
    matrix[:2, :2] = scale * torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    matrix[:2, 2] = 0.5 + torch.tensor(shift) - matrix[:2, :2].sum(1) / 2
    return matrix


MATRICES = torch.stack([turned(0), turned(35, 0.8), turned(-20, 1.2, (0.1, -0.05)), turned(140, 1.0, (0.4, 0.4))])


def random_pairs(batch: int, grid: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(batch, 6, grid, grid, generator=generator, dtype=dtype) for _ in range(2))
    b[:, :, ::2] = a[:, :, ::2]  # so that some cells do find their own
    logits = torch.randn(2, batch, 1, grid, grid, generator=generator, dtype=dtype)
    return functional.normalize(a, dim=1), functional.normalize(b, dim=1), logits[0], logits[1]


def plain_match(matrix: Tensor, grid: int) -> list[int]:
    def land(matrix: Tensor, cell: int) -> int:
        centre = torch.tensor([(cell % grid + 0.5) / grid, (cell // grid + 0.5) / grid, 1.0], dtype=torch.float64)
        x, y = (math.floor(value * grid) for value in (matrix @ centre)[:2].tolist())
        return y * grid + x if 0 <= x < grid and 0 <= y < grid else -1

    forth, back = matrix.double(), torch.linalg.inv(matrix.double())
    ends = [land(forth, cell) for cell in range(grid * grid)]
    return [end if end >= 0 and land(back, end) == cell else -1 for cell, end in enumerate(ends)]


def plain_loss(a: Tensor, b: Tensor, logits_a: Tensor, logits_b: Tensor, match: list[int]) -> tuple[float, float]:
    """One pair, cell by cell."""
    a, b, logits_a, logits_b = a.flatten(1).T, b.flatten(1).T, logits_a.flatten(), logits_b.flatten()
    similarity = a @ b.T / 0.1
    descriptor, detector, count = 0.0, 0.0, 0
    for i, j in enumerate(match):
        if j < 0:
            continue
        count += 1
        descriptor -= float(similarity[i].log_softmax(0)[j] + similarity[:, j].log_softmax(0)[i])
        found = int(similarity[i].argmax()) == j and int(similarity[:, j].argmax()) == i
        for logit in (logits_a[i], logits_b[j]):
            detector -= float(functional.logsigmoid(logit if found else -logit))
    return descriptor / max(count, 1), detector / max(2 * count, 1)


@pytest.mark.parametrize("grid", [4, 7, 8])
def test_correspondences_equal_the_definition_cell_by_cell(grid: int) -> None:
    found = correspondences(MATRICES, grid)
    assert found.tolist() == [plain_match(matrix, grid) for matrix in MATRICES]
    for matches in found:
        matched = matches[matches >= 0]
        assert len(matched.unique()) == len(matched)  # mutual, so one to one


def test_correspondences_of_known_transforms() -> None:
    cells = torch.arange(16).view(4, 4)
    shifted = torch.eye(3)
    shifted[0, 2] = 0.25
    mirrored = torch.tensor([[-1.0, 0, 1], [0, 1, 0], [0, 0, 1]])
    found = correspondences(torch.stack([torch.eye(3), turned(90), mirrored, shifted, turned(0, 1, (2, 2))]), 4)
    assert torch.equal(found[0].view(4, 4), cells)
    assert found[1].tolist() == [
        4 * column + 3 - row for row in range(4) for column in range(4)
    ]  # (x, y) to (1 - y, x)
    assert torch.equal(found[2].view(4, 4), cells.flip(1))
    assert torch.equal(found[3].view(4, 4), functional.pad(cells[:, 1:], (0, 1), value=-1))
    assert (found[4] == -1).all()


def test_loss_equals_the_definition_cell_by_cell() -> None:
    a, b, logits_a, logits_b = random_pairs(4, 7)
    plain = [plain_loss(*pair, plain_match(m, 7)) for *pair, m in zip(a, b, logits_a, logits_b, MATRICES, strict=True)]
    loss = silk_loss(a, b, logits_a, logits_b, MATRICES)
    assert torch.allclose(torch.stack(loss), torch.tensor(plain, dtype=torch.float64).mean(0), atol=1e-10)


@pytest.mark.parametrize("grid", [32, 64])
def test_equal_descriptors_cost_the_logarithm_of_the_number_of_cells(grid: int) -> None:
    same = torch.full((1, 4, grid, grid), 0.5)
    loss = silk_loss(same, same, same[:, :1], same[:, :1], torch.eye(3)[None])
    assert math.isclose(loss.descriptor.item(), 2 * math.log(grid * grid), rel_tol=1e-5)  # 2 * 8.318 at 64


@pytest.mark.parametrize("temperature", [0.1, 0.1 / 1.41**2])
def test_orthogonal_descriptors_that_match_cost_next_to_nothing(temperature: float) -> None:
    cells = torch.eye(64).view(1, 64, 8, 8)
    logits = torch.full((1, 1, 8, 8), 3.0)
    loss = silk_loss(cells, cells, logits, logits, torch.eye(3)[None], temperature)
    assert math.isclose(loss.descriptor.item(), 2 * math.log(1 + 63 * math.exp(-1 / temperature)), abs_tol=1e-5)
    assert math.isclose(loss.detector.item(), math.log(1 + math.exp(-3)), rel_tol=1e-5)  # every cell is a keypoint


def test_detector_is_taught_where_descriptors_find_their_own() -> None:
    cells = torch.eye(16).view(1, 16, 4, 4)
    other = cells.clone()
    other[0, :, 0, 0], other[0, :, 0, 1] = cells[0, :, 0, 1], cells[0, :, 0, 0]  # two cells that find each other's
    logits = torch.zeros(1, 1, 4, 4).requires_grad_()
    silk_loss(cells, other, logits, logits.detach(), torch.eye(3)[None]).detector.backward()
    assert logits.grad is not None
    wanted = torch.full((4, 4), -0.5)
    wanted[0, :2] = 0.5
    assert torch.allclose(logits.grad[0, 0], wanted / 32)


def test_mean_over_shares_is_the_mean_over_the_batch() -> None:
    pairs = random_pairs(4, 7)
    whole = torch.stack(silk_loss(*pairs, MATRICES))
    shares = [[values[part] for values in (*pairs, MATRICES)] for part in (slice(0, 2), slice(2, 4))]
    assert torch.allclose(whole, torch.stack([torch.stack(silk_loss(*share)) for share in shares]).mean(0))


def test_direction_does_not_matter() -> None:
    a, b, logits_a, logits_b = random_pairs(4, 7)
    forth = silk_loss(a, b, logits_a, logits_b, MATRICES)
    back = silk_loss(b, a, logits_b, logits_a, torch.linalg.inv(MATRICES))
    assert torch.allclose(torch.stack(forth), torch.stack(back))


def test_gradients() -> None:
    inputs = [values[:2].requires_grad_() for values in random_pairs(2, 3)]
    assert torch.autograd.gradcheck(lambda *pairs: tuple(silk_loss(*pairs, MATRICES[:2])), inputs)


@pytest.mark.parametrize("matrices", [turned(0, 1, (3, 3))[None], torch.zeros(0, 3, 3)])
def test_nothing_in_common_is_no_loss_and_no_gradient(matrices: Tensor) -> None:
    inputs = [values[: len(matrices)].requires_grad_() for values in random_pairs(1, 4)]
    loss = silk_loss(*inputs, matrices)
    sum(loss).backward()  # type: ignore[union-attr]
    assert loss.descriptor.item() == loss.detector.item() == 0
    assert all(values.grad is not None and not values.grad.any() for values in inputs)


def test_half_precision_is_summed_in_single() -> None:
    pairs = random_pairs(2, 8, torch.float32)
    single, half = silk_loss(*pairs, MATRICES[:2]), silk_loss(*(values.bfloat16() for values in pairs), MATRICES[:2])
    assert half.descriptor.dtype == torch.float32
    assert torch.allclose(torch.stack(single), torch.stack(half), rtol=0.03)
