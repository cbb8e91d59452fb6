import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.nn import functional

from uldscale.losses.elbo import elbo

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(3, 1, 8, 8, generator=GENERATOR, dtype=torch.float64)
TARGET = torch.rand(3, 1, 8, 8, generator=GENERATOR, dtype=torch.float64)
MEAN, LOG_VARIANCE = torch.randn(2, 3, 5, generator=GENERATOR, dtype=torch.float64)


def test_divergence_has_its_known_values() -> None:
    nothing = torch.zeros(3, 5)
    assert elbo(LOGITS, TARGET, nothing, nothing, kl_weight=1, positive_weight=1).kl == 0
    assert elbo(LOGITS, TARGET, nothing + 1, nothing, kl_weight=1, positive_weight=1).kl == 0.5
    halved = elbo(LOGITS, TARGET, nothing, nothing + math.log(4), kl_weight=1, positive_weight=1).kl
    assert math.isclose(halved.item(), (4 - 1 - math.log(4)) / 2, rel_tol=1e-6)


def test_divergence_equals_that_of_the_distributions() -> None:
    wanted = kl_divergence(Normal(MEAN, LOG_VARIANCE.exp().sqrt()), Normal(0.0, 1.0)).mean()
    assert torch.allclose(elbo(LOGITS, TARGET, MEAN, LOG_VARIANCE, kl_weight=1, positive_weight=1).kl, wanted)


@pytest.mark.parametrize("positive_weight", [1.0, 8.0])
def test_reconstruction_is_the_weighted_cross_entropy(positive_weight: float) -> None:
    heat = LOGITS.sigmoid()
    entropy = -(TARGET * heat.log() + (1 - TARGET) * (1 - heat).log()) * (1 + (positive_weight - 1) * TARGET)
    loss = elbo(LOGITS, TARGET, MEAN, LOG_VARIANCE, kl_weight=0.1, positive_weight=positive_weight)
    assert torch.allclose(loss.reconstruction, entropy.mean())
    assert torch.allclose(loss.total, loss.reconstruction + 0.1 * loss.kl)


def test_the_best_map_is_the_target_whatever_the_weight() -> None:
    logits = TARGET.logit().requires_grad_()
    elbo(logits, TARGET, MEAN, LOG_VARIANCE, kl_weight=0, positive_weight=8).total.backward()
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-12


def test_a_missing_peak_is_raised_from_an_empty_map() -> None:
    target = torch.zeros(1, 1, 8, 8)
    target[0, 0, 3, 3] = 1.0
    empty = torch.full_like(target, -12.0).requires_grad_()
    elbo(empty, target, MEAN, LOG_VARIANCE, kl_weight=0, positive_weight=1).total.backward()
    squared = torch.full_like(target, -12.0).requires_grad_()
    functional.mse_loss(squared.sigmoid(), target).backward()
    assert empty.grad is not None
    assert squared.grad is not None
    assert math.isclose(empty.grad[0, 0, 3, 3].item(), -1 / 64, rel_tol=1e-4)
    assert squared.grad.abs().max() < 1e-6


def test_gradients() -> None:
    inputs = [values.clone().requires_grad_() for values in (LOGITS, MEAN, LOG_VARIANCE)]
    assert torch.autograd.gradcheck(
        lambda logits, mean, spread: elbo(logits, TARGET, mean, spread, kl_weight=0.1, positive_weight=3).total, inputs
    )
