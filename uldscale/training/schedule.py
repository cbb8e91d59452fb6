"""What is trained when: the four stages of the paper (Section 4, "Training details") and their settings.

Steps count optimizer steps of one global batch, whatever the number of workers.
"""

from enum import StrEnum

from pydantic import Field

from uldscale.clustering.two_stage import ClusterConfig
from uldscale.config import Settings
from uldscale.models.keypoints import KeypointConfig
from uldscale.models.network import NetworkConfig, Part
from uldscale.runtime.engine import EngineConfig


class Stage(StrEnum):
    """The stages in the order in which they run; each starts from the weights of the one before."""

    BOOTSTRAP = "bootstrap"
    D_ULD = "d_uld"
    POSE_PROXY = "d_uld_pose_proxy"
    D_ULD_PP = "d_uld_pp"


TRAINED_PARTS: dict[Stage, frozenset[Part]] = {
    Stage.BOOTSTRAP: frozenset({"aggregator", "detector", "descriptor"}),
    Stage.D_ULD: frozenset({"aggregator", "detector", "descriptor"}),
    Stage.POSE_PROXY: frozenset({"aggregator", "detector", "encoder", "decoder"}),
    Stage.D_ULD_PP: frozenset({"aggregator", "detector", "descriptor", "encoder"}),
}
"""Parts of the network that learn in a stage; the others are frozen."""


class StageConfig(Settings):
    """Length and learning rate of one stage."""

    steps: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    relabel_every: int | None = Field(default=None, ge=1)
    """Steps between two rounds of pseudo-labels; None: the labels of the stage's start serve all of it."""


class LossConfig(Settings):
    """Weights and shapes of the losses."""

    temperature: float = Field(default=0.1, gt=0)
    """Of the SiLK descriptor loss."""
    margin: float = Field(default=0.8, gt=0)
    """Of both contrastive losses (paper, Eqs. 3 and 4)."""
    squared: bool = True
    """Squared distances and hinge, as the code that the paper cites; False: the paper's equations to the letter."""
    min_distance: float = Field(default=5.7 / 64, ge=0)
    """Negatives within one view are at least this far apart, in unit coordinates."""
    sigma: float = Field(default=1.0, gt=0)
    """Of the Gaussians in pseudo-label heatmaps, in cells."""
    positive_weight: float = Field(default=10.0, ge=1)
    """Weight of a heatmap cell at a landmark, against 1 for background."""
    detector_weight: float = Field(default=10.0, gt=0)
    descriptor_weight: float = Field(default=1.0, gt=0)
    kl_weight: float = Field(default=0.01, ge=0)
    pose_weight: float = Field(default=1.0, gt=0)
    """Of the ELBO in the pose proxy and of Eq. 3 in D-ULD++."""


class TrainConfig(Settings):
    """Everything that decides what is learned; where it runs is in `runtime`."""

    network: NetworkConfig = NetworkConfig()
    first_keypoints: KeypointConfig = KeypointConfig(dense=True, minimum=48)
    """Of the first round: a bootstrapped heatmap is smooth, and its 8 or so peaks an image miss too many parts of the object."""
    keypoints: KeypointConfig = KeypointConfig()
    """Of all later rounds, and of the detector."""
    clusters: ClusterConfig = ClusterConfig()
    losses: LossConfig = LossConfig()
    engine: EngineConfig = EngineConfig()
    seed: int = 0
    batch: int = Field(default=12, ge=2)
    """Images of a global batch; each comes in two views."""
    warmup_steps: int = Field(default=1000, ge=0)
    checkpoint_every: int = Field(default=1000, ge=1)
    log_every: int = Field(default=50, ge=1)
    keep_rounds: int = Field(default=4, ge=2)
    """Rounds of pseudo-labels that stay on disk."""
    bootstrap: StageConfig = StageConfig(steps=50_000, learning_rate=1e-4)
    d_uld: StageConfig = StageConfig(steps=100_000, learning_rate=1e-4, relabel_every=5_000)
    d_uld_pose_proxy: StageConfig = StageConfig(steps=50_000, learning_rate=5e-5)
    d_uld_pp: StageConfig = StageConfig(steps=100_000, learning_rate=5e-4, relabel_every=5_000)

    def of(self, stage: Stage) -> StageConfig:
        """Settings of one stage."""
        settings: StageConfig = getattr(self, stage.value)
        return settings
