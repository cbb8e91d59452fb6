import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from uldscale.losses.contrastive import Negatives, Policy, Total, descriptor_loss, latent_loss


def batch(n: int = 24) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = torch.arange(n) // 6
    return {
        "descriptors": functional.normalize(torch.randn(n, 3, generator=generator, dtype=torch.float64)),
        "labels": torch.randint(0, 4, (n,), generator=generator),
        "image": image,
        "points": torch.rand(n, 2, generator=generator, dtype=torch.float64),
        "poses": torch.tensor([0, 1, 0, 1])[image],
    }


def plain_loss(data: dict[str, Tensor], policy: Policy, squared: bool, negatives: Negatives) -> float:
    power = 2 if squared else 1
    pulls, pushes = [], []
    for i, j in itertools.combinations(range(len(data["labels"])), 2):
        same_label, same_pose, same_image = (bool(data[key][i] == data[key][j]) for key in ("labels", "poses", "image"))
        distance = float((data["descriptors"][i] - data["descriptors"][j]).norm())
        far = float((data["points"][i] - data["points"][j]).norm()) > 0.3
        alike = same_label and (same_pose or policy == "global")
        ignored = same_label and not same_pose and policy == "ignore_cross_pose"
        if alike and not same_image:
            pulls.append(distance**power)
        if not alike and not ignored and (far or not same_image):
            pushes.append(max(0.0, 0.8 - distance) ** power)
    heard = [push for push in pushes if push > 0] if negatives == "near" else pushes
    return sum(pulls) / len(pulls) + sum(heard) / len(heard)


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("policy", ["ignore_cross_pose", "fine", "global"])
@pytest.mark.parametrize("negatives", ["all", "near"])
def test_equals_the_equation_pair_by_pair(negatives: Negatives, policy: Policy, squared: bool) -> None:
    loss = descriptor_loss(**batch(), min_distance=0.3, policy=policy, squared=squared, negatives=negatives)
    assert math.isclose(loss.item(), plain_loss(batch(), policy, squared, negatives), abs_tol=1e-4)


@pytest.mark.parametrize("negatives", ["all", "near"])
def test_parts_add_up_to_the_whole(negatives: Negatives) -> None:
    """Of processes that have some rows each, and know how many pairs there are in all."""
    whole = batch()
    whole["labels"][5] = -1
    codes, poses = whole["descriptors"], whole["labels"].clamp_min(0)
    parts = [slice(0, 7), slice(7, 7), slice(7, 24)]
    counts: list[Tensor] = []

    def count(pairs: Tensor) -> Tensor:
        counts.append(pairs)
        return pairs

    def given(*totals: Tensor) -> Total:
        left = list(totals)
        return lambda pairs: left.pop(0)

    def loss(own: slice, total: Total) -> Tensor:
        first = descriptor_loss(**whole, min_distance=0.3, negatives=negatives, own=own, total=total)
        return torch.stack([first, latent_loss(codes, poses, negatives=negatives, own=own, total=total)])

    for part in parts:
        loss(part, count)
    first, second = (torch.stack(counts[kind::2]).sum(0) for kind in range(2))
    added = sum(loss(part, given(first, second)) for part in parts)
    torch.testing.assert_close(added, loss(slice(None), lambda pairs: pairs))


def test_two_that_are_near_are_heard_among_many_that_are_far() -> None:
    """Their gradient does not fade with the number of others."""

    def push(others: int, negatives: Negatives) -> float:
        far = -torch.eye(others + 2)[2:]
        near = torch.zeros(2, others + 2)
        near[0, 0], near[1, 0], near[1, 1] = 1, 0.9, math.sqrt(1 - 0.9**2)
        vectors = torch.cat([near, far]).requires_grad_()
        labels, image = torch.arange(others + 2), torch.arange(others + 2)
        descriptor_loss(vectors, labels, image, torch.zeros(others + 2, 2), negatives=negatives).backward()
        assert vectors.grad is not None
        return float(vectors.grad[0].norm())

    assert push(30, "near") == pytest.approx(push(2, "near"))
    assert push(30, "all") < push(2, "all") / 50


def test_without_poses_all_policies_are_one() -> None:
    data = {**batch(), "poses": None}
    losses = [descriptor_loss(**data, policy=policy) for policy in ("ignore_cross_pose", "fine", "global")]  # type: ignore[arg-type]
    assert losses[0] == losses[1] == losses[2] > 0


@pytest.mark.parametrize(("cosine", "loss"), [(0.68, 0.0), (0.5, 0.0), (1 - 0.5**2 / 2, 0.3**2)])
def test_cosine_068_is_at_the_margin(cosine: float, loss: float) -> None:
    pair = torch.tensor([[1.0, 0.0], [cosine, math.sqrt(1 - cosine**2)]])
    got = descriptor_loss(pair, torch.tensor([0, 1]), torch.tensor([0, 1]), torch.zeros(2, 2))
    assert math.isclose(got.item(), loss, abs_tol=2e-6)


@pytest.mark.parametrize(("image", "gap", "counts"), [(0, 0.05, False), (0, 0.1, True), (1, 0.0, True)])
def test_near_points_of_one_image_are_no_negatives(image: int, gap: float, counts: bool) -> None:
    points = torch.tensor([[0.5, 0.5], [0.5, 0.5 + gap]])
    same = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    loss = descriptor_loss(same, torch.tensor([0, 1]), torch.tensor([0, image]), points)
    assert (loss > 0.6) == counts


def test_equal_labels_of_one_image_are_no_positives() -> None:
    apart = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    labels, points = torch.tensor([3, 3]), torch.rand(2, 2)
    assert descriptor_loss(apart, labels, torch.tensor([0, 0]), points) == 0
    assert math.isclose(descriptor_loss(apart, labels, torch.tensor([0, 1]), points).item(), 2, abs_tol=1e-5)


def test_many_negatives_do_not_outweigh_few_positives() -> None:
    pair = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    crowd = -torch.ones(50, 2) / math.sqrt(2)
    labels, image = torch.tensor([0, 0, *range(1, 51)]), torch.arange(52)
    alone = descriptor_loss(pair, labels[:2], image[:2], torch.zeros(2, 2))
    spread = functional.normalize(torch.randn(50, 2, generator=torch.Generator().manual_seed(0)))
    for others in (crowd, spread):
        loss = descriptor_loss(torch.cat([pair, others]), labels, image, torch.zeros(52, 2))
        assert alone <= loss <= alone + 0.8**2


@pytest.mark.parametrize("squared", [True, False])
def test_gradient_is_finite_where_descriptors_meet(squared: bool) -> None:
    same = torch.tensor([[0.6, 0.8]]).repeat(4, 1).requires_grad_()
    labels = torch.tensor([0, 0, 1, 1])
    descriptor_loss(same, labels, torch.arange(4), torch.zeros(4, 2), squared=squared).backward()
    assert same.grad is not None
    assert same.grad.isfinite().all()
    assert same.grad.abs().max() < 1


@pytest.mark.parametrize("squared", [True, False])
def test_gradients(squared: bool) -> None:
    data = batch(12)
    values = data.pop("descriptors").requires_grad_()
    assert torch.autograd.gradcheck(lambda x: descriptor_loss(x, **data, squared=squared), values)
    assert torch.autograd.gradcheck(lambda x: latent_loss(x, data["labels"], squared=squared), values)


@pytest.mark.parametrize("n", [0, 1])
def test_no_pair_is_no_loss_and_no_gradient(n: int) -> None:
    vectors = torch.ones(n, 3, requires_grad=True)
    labels = torch.zeros(n, dtype=torch.int64)
    loss = descriptor_loss(vectors, labels, labels, torch.zeros(n, 2)) + latent_loss(vectors, labels)
    loss.backward()
    assert loss == 0
    assert vectors.grad is not None
    assert not vectors.grad.any()


@pytest.mark.parametrize("squared", [True, False])
def test_latent_loss_equals_equation_3_pair_by_pair(squared: bool) -> None:
    codes, labels = batch()["descriptors"] * 2, batch()["labels"]
    length = math.sqrt(codes.shape[1])
    power = 2 if squared else 1
    pulls, pushes = [], []
    for i, j in itertools.combinations(range(len(labels)), 2):
        distance = float((codes[i] - codes[j]).norm()) / length
        alike = bool(labels[i] == labels[j])
        (pulls if alike else pushes).append((distance if alike else max(0.0, 0.8 - distance)) ** power)
    wanted = sum(pulls) / len(pulls) + sum(pushes) / len(pushes)
    assert math.isclose(latent_loss(codes, labels, squared=squared).item(), wanted, abs_tol=1e-4)


def test_codes_that_are_left_raw_have_the_margin_in_their_own_unit() -> None:
    codes, labels = torch.tensor([[0.0] * 4, [0.3] * 4]), torch.tensor([0, 1])
    assert math.isclose(latent_loss(codes, labels, raw=True, squared=False).item(), 0.8 - 0.6, abs_tol=1e-5)
    assert math.isclose(latent_loss(codes, labels, squared=False).item(), 0.8 - 0.3, abs_tol=1e-5)


def test_latent_loss_sorts_poses() -> None:
    codes = torch.randn(12, 4, generator=torch.Generator().manual_seed(0)).mul(0.1).requires_grad_()
    labels = torch.arange(12) % 3
    optimizer = torch.optim.Adam([codes], 0.02)
    for _ in range(150):
        optimizer.zero_grad()
        latent_loss(codes, labels).backward()
        optimizer.step()
    distance, same = torch.cdist(codes, codes), labels[:, None] == labels
    assert distance[same].max() < 0.1
    assert distance[~same].min() > 0.7
