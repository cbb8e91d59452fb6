"""What is trained when: the stages of the paper (Section 4, "Training details"), those of its baselines, and their settings.

Every stage starts from the weights and labels of its parent:

    bootstrap ── d_uld ── d_uld_pose_proxy ── d_uld_pp
        │          │             └─────────── full_vae (── d_uld_pp with `two_steps`)
        │          └─────── control
        └─────── mallis_d

Steps count optimizer steps of one global batch, whatever the number of workers; an epoch is as many as the training images fill.
"""

from typing import Self

from pydantic import Field, model_validator

from uldscale.clustering.two_stage import ClusterConfig, Clustering
from uldscale.config import Settings, validate
from uldscale.losses.config import LossConfig
from uldscale.models.keypoints import KeypointConfig, most_keypoints
from uldscale.models.network import NetworkConfig, Part
from uldscale.runtime.engine import EngineConfig, Rate
from uldscale.training.stages import Length, Stage, StageConfig

__all__ = ["Length", "LossConfig", "Stage", "StageConfig", "TrainConfig"]


_PARENT: dict[Stage, Stage] = {
    Stage.D_ULD: Stage.BOOTSTRAP,
    Stage.POSE_PROXY: Stage.D_ULD,
    Stage.D_ULD_PP: Stage.POSE_PROXY,
    Stage.FULL_VAE: Stage.POSE_PROXY,
    Stage.MALLIS_D: Stage.BOOTSTRAP,
    Stage.CONTROL: Stage.D_ULD,
}

CLUSTERING: dict[Stage, Clustering] = {
    Stage.D_ULD: Clustering.SINGLE_STAGE,
    Stage.POSE_PROXY: Clustering.SINGLE_STAGE,
    Stage.D_ULD_PP: Clustering.TWO_STAGE,
    Stage.FULL_VAE: Clustering.TWO_STAGE,
    Stage.MALLIS_D: Clustering.OVER_SEGMENTED,
    Stage.CONTROL: Clustering.SINGLE_STAGE,
}

_TRAINED_PARTS: dict[Stage, frozenset[Part]] = {
    Stage.BOOTSTRAP: frozenset({"aggregator", "detector", "descriptor"}),
    Stage.D_ULD: frozenset({"aggregator", "detector", "descriptor"}),
    Stage.POSE_PROXY: frozenset({"aggregator", "detector", "encoder", "decoder"}),
    Stage.D_ULD_PP: frozenset({"aggregator", "detector", "descriptor", "encoder"}),
    Stage.FULL_VAE: frozenset({"aggregator", "detector", "descriptor", "encoder", "decoder"}),
    Stage.MALLIS_D: frozenset({"aggregator", "detector", "descriptor"}),
    Stage.CONTROL: frozenset({"aggregator", "detector", "descriptor"}),
}


class TrainConfig(Settings):
    """Everything that decides what is learned; where it runs is in `runtime`."""

    network: NetworkConfig = NetworkConfig()
    keypoints: KeypointConfig = KeypointConfig()
    """Of all rounds, and of the detector."""
    clusters: ClusterConfig = ClusterConfig()
    losses: LossConfig = LossConfig()
    engine: EngineConfig = EngineConfig()
    seed: int = Field(default=0, ge=0)
    batch: int = Field(default=12, ge=2)
    """Images of a global batch; each comes in two views. In a job `batch_per_worker` says it as a share of one worker."""
    warmup_steps: int = Field(default=1000, ge=0)
    """Steps at the start of each stage in which the learning rate rises linearly."""
    cooldown: float = Field(default=0.2, ge=0, le=1)
    """Share of each stage, at its end, in which the learning rate falls linearly towards 0; the paper has 0."""
    checkpoint_every: int = Field(default=1000, ge=1)
    log_every: int = Field(default=50, ge=1)
    overlap: int = Field(default=0, ge=0)
    """Steps for which training goes on with the labels that it has while the next round is fitted; without a checkpoint meanwhile.
    0: it waits.
    """
    keep_rounds: int = Field(default=4, ge=2)
    """Rounds of pseudo-labels that stay on disk."""
    bootstrap: StageConfig = StageConfig(steps=50_000, learning_rate=1e-4)
    d_uld: StageConfig = StageConfig(steps=100_000, learning_rate=1e-4, relabel_every=5_000)
    d_uld_pose_proxy: StageConfig = StageConfig(steps=50_000, learning_rate=5e-5)
    d_uld_pp: StageConfig = StageConfig(steps=100_000, learning_rate=5e-4, relabel_every=5_000)
    full_vae: StageConfig | None = None
    """A baseline of the paper's tables, as `mallis_d`; None: it is not trained."""
    mallis_d: StageConfig | None = None
    control: StageConfig | None = None
    """D-ULD that goes on for these steps; None: it is not trained."""

    two_steps: bool = False
    """Whether D-ULD++ begins where `full_vae` ended, as in the paper (3.3.2, "Training objectives")."""
    frozen_descriptor: bool = False
    """Whether D-ULD++ leaves the descriptor head as it is, as in the second of these steps."""

    @model_validator(mode="after")
    def _first_step(self) -> Self:
        if self.two_steps and self.full_vae is None:
            raise ValueError("train.two_steps needs train.full_vae: its steps and learning rate")
        return self

    @model_validator(mode="after")
    def _found_on_one_image(self) -> Self:
        """Each landmark of an image is another keypoint of it, at first."""
        most = most_keypoints(self.keypoints, self.network.grid)
        if self.clusters.landmarks > most:
            raise ValueError(
                f"train.clusters.landmarks={self.clusters.landmarks} is more than the {most} keypoints that an image has at most "
                f"(train.keypoints.maximum={self.keypoints.maximum}, train.keypoints.radius={self.keypoints.radius} on train.network."
                f"grid={self.network.grid}); lower it"
            )
        return self

    @model_validator(mode="after")
    def _one_round_at_a_time(self) -> Self:
        for stage in self.stages:
            every = self._settings(stage).relabel_every
            if every is not None and self.overlap >= every:
                raise ValueError(
                    f"train.overlap must be less than train.{stage}.relabel_every={every}, got {self.overlap}"
                )
        return self

    @model_validator(mode="after")
    def _labelled(self) -> Self:
        """A stage that is about labels would otherwise learn from those of its parent, or from none."""
        for stage in (Stage.D_ULD, Stage.D_ULD_PP, Stage.FULL_VAE, Stage.MALLIS_D, Stage.CONTROL):
            if stage in self.stages and not self._settings(stage).relabelled:
                raise ValueError(
                    f"train.{stage}.relabel_every must be given, or relabel_epochs: what is between two rounds of labels"
                )
        if self.bootstrap is not None and self.bootstrap.relabelled:
            raise ValueError("train.bootstrap makes no labels; leave out its relabel_every or relabel_epochs")
        return self

    @property
    def stages(self) -> list[Stage]:
        """The stages that are trained, in order."""
        wanted = [stage for stage in Stage if getattr(self, stage.value) is not None]
        # With two steps the full VAE is the first of them.
        return sorted(wanted, key=lambda stage: self.two_steps and stage is Stage.D_ULD_PP)

    def parent(self, stage: Stage) -> Stage | None:
        """The stage whose weights and labels this one starts from; None for the first."""
        return Stage.FULL_VAE if self.two_steps and stage is Stage.D_ULD_PP else _PARENT.get(stage)

    def trained(self, stage: Stage) -> frozenset[Part]:
        """Parts of the network that learn in a stage; the others are frozen."""
        frozen: set[Part] = {"descriptor"} if self.frozen_descriptor and stage is Stage.D_ULD_PP else set()
        return _TRAINED_PARTS[stage] - frozen

    def in_steps(self, images: int) -> Self:
        """The same for so many training images, with all lengths in steps. Raises ConfigError where they don't go together."""
        stages = {stage.value: self._settings(stage).in_steps(images / self.batch) for stage in self.stages}
        lengths = {name: length.model_dump() for name, length in stages.items()}
        return validate(type(self), {**self.model_dump(), **lengths}, f"{images} training images")

    def of(self, stage: Stage) -> Length:
        """One of the `stages`, whose length is in steps."""
        settings = self._settings(stage)
        assert settings.steps is not None, "TrainConfig.in_steps comes first"
        return Length(settings.steps, settings.learning_rate, settings.relabel_every)

    def _settings(self, stage: Stage) -> StageConfig:
        settings: StageConfig = getattr(self, stage.value)
        return settings

    def rate(self, stage: Stage) -> Rate:
        """Learning rate by step of one of the `stages`."""
        settings = self.of(stage)
        return Rate(settings.learning_rate, self.warmup_steps, settings.steps, round(self.cooldown * settings.steps))

    def stretches(self, stage: Stage, start: int) -> list[range]:
        """Steps of a stage from `start` on, in runs between two moments at which something else happens: a checkpoint, the beginning or
        the end of a round of labels.
        """
        settings = self.of(stage)
        begun = range(0, settings.steps, settings.relabel_every) if settings.relabel_every else range(0)
        cuts = {start, settings.steps, *range(0, settings.steps, self.checkpoint_every), *begun}
        for step in begun[1:] if self.overlap else ():
            end = min(step + self.overlap, settings.steps)
            cuts = cuts - set(range(step + 1, end)) | {end}
        ordered = sorted(cut for cut in cuts if cut >= start)
        return [range(first, last) for first, last in zip(ordered, ordered[1:], strict=False)]
