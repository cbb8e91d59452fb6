"""Evidence lower bound of the pose VAE (paper section 3.3.1), as a loss.

The reconstruction is a cross entropy of cells, not a squared error of sigmoids: heatmaps are nearly empty, and where
the sigmoid is near 0 the squared error has no slope left to raise a missing peak. With soft targets its least value is
their entropy, not 0. Both terms are means (over cells, over latent dimensions), so that the weight of the divergence
keeps its meaning when the grid changes.

Legend: B batch, G side of the grid, Z latent size.
"""

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional


class Elbo(NamedTuple):
    """The loss and its two terms, in nats per cell and per latent dimension."""

    reconstruction: Tensor
    kl: Tensor
    total: Tensor
    """reconstruction + kl_weight * kl"""


def elbo(
    logits: Tensor, target: Tensor, mean: Tensor, log_variance: Tensor, *, kl_weight: float, positive_weight: float
) -> Elbo:
    """Loss of reconstructed logits (B, 1, G, G) against heatmaps in [0, 1], and of posteriors N(mean,
    exp(log_variance)) (B, Z) against N(0, 1). Cells weigh from 1 where empty to `positive_weight` on landmarks.
    """
    weight = 1 + (positive_weight - 1) * target
    reconstruction = functional.binary_cross_entropy_with_logits(logits, target, weight)
    kl = (mean.square() + log_variance.exp() - 1 - log_variance).mean() / 2
    return Elbo(reconstruction, kl, reconstruction + kl_weight * kl)
