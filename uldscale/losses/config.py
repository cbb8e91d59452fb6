"""Settings of the losses."""

from pydantic import Field

from uldscale.config import Settings
from uldscale.losses.contrastive import Negatives, Policy


class LossConfig(Settings):
    """Weights and shapes of the losses."""

    temperature: float = Field(default=0.1, gt=0)
    """Of the SiLK descriptor loss."""
    mirrored: bool = False
    """Whether SiLK learns from a view and a mirrored one, too, when views are flipped (paper 3.2); that teaches that left is right."""
    margin: float = Field(default=0.8, gt=0)
    """Of both contrastive losses (paper, Eqs. 3 and 4)."""
    raw_codes: bool = False
    """Eq. 3's margin in the unit of codes as they are, as in the paper, instead of that of their length."""
    pose_moves_detector: bool = False
    """Whether Eq. 3 teaches the detector, too, as in the paper, instead of the encoder alone."""
    squared: bool = True
    """Squared distances and hinge, as the code that the paper cites; False: the paper's equations to the letter."""
    policy: Policy = "ignore_cross_pose"
    """What one landmark in two poses is to Eq. 4: nothing, a negative ("fine", the paper's joint labels) or a positive ("global")."""
    negatives: Negatives = "all"
    """Over which the pushes of Eqs. 3 and 4 are averaged; "near" keeps 20 landmarks and more apart, and makes ten less calm."""
    min_distance: float = Field(default=5.7 / 64, ge=0)
    """Negatives within one view are at least this far apart, in unit coordinates."""
    sigma: float = Field(default=1.0, gt=0)
    """Of the Gaussians in pseudo-label heatmaps, in cells."""
    pose_sigma: float = Field(default=2.0, gt=0)
    """The same in the heatmaps that the VAE rebuilds."""
    positive_weight: float = Field(default=10.0, ge=1)
    """Weight of a heatmap cell at a landmark, against 1 for background."""
    detector_weight: float = Field(default=10.0, gt=0)
    descriptor_weight: float = Field(default=1.0, gt=0)
    kl_weight: float = Field(default=0.01, ge=0)
    pose_weight: float = Field(default=1.0, gt=0)
    """Of the ELBO, and of Eq. 3 in D-ULD++."""
