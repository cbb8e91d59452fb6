"""The stages of training, and how long one is; apart from what is trained, since who only reads a run needs no torch."""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from uldscale.config import Settings

RELABEL = "relabel"
"""Name of the stage that makes a round of labels, within one of training."""


class Stage(StrEnum):
    """The stages in the order in which they run, unless `TrainConfig.stages` has another."""

    BOOTSTRAP = "bootstrap"
    D_ULD = "d_uld"
    POSE_PROXY = "d_uld_pose_proxy"
    D_ULD_PP = "d_uld_pp"
    FULL_VAE = "full_vae"
    """Two-stage clustering with the whole VAE and its ELBO (paper, Table 2)."""
    MALLIS_D = "mallis_d"
    """Mallis et al. (paper reference 32) on diffusion features: labels of M clusters, landmarks of K (paper, Table 1). Their first
    stage; the numbers that they publish come from a second one with a heatmap for each landmark.
    """
    CONTROL = "control"
    """D-ULD that goes on: what D-ULD++ is to be compared with, when it has as many steps as pose proxy and D-ULD++ together."""


class StageConfig(Settings):
    """Length and learning rate of one stage."""

    steps: int | None = Field(default=None, ge=1)
    epochs: float | None = Field(default=None, gt=0)
    """Length in passes over the training images, in the place of `steps`."""
    learning_rate: float = Field(gt=0)
    relabel_every: int | None = Field(default=None, ge=1)
    """Steps between two rounds of pseudo-labels; None, for bootstrap and pose proxy only: none is made before the stage's end."""
    relabel_epochs: float | None = Field(default=None, gt=0)
    """The same in passes over the training images; rounded so that the last round is followed by as many steps as the others."""

    @model_validator(mode="after")
    def _said_once(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            got = "both" if self.steps else "neither"
            raise ValueError(f"wanted either steps or epochs, got {got}; null takes one out")
        if self.relabel_every is not None and self.relabel_epochs is not None:
            raise ValueError("relabel_every and relabel_epochs say the same thing; give one of them")
        return self

    @property
    def relabelled(self) -> bool:
        """Whether rounds of labels are made before the stage's end."""
        return self.relabel_every is not None or self.relabel_epochs is not None

    def in_steps(self, epoch: float) -> "StageConfig":
        """The same in steps, of which an epoch has so many."""
        steps, every = self.steps, self.relabel_every
        if self.epochs is not None:
            steps = max(1, round(self.epochs * epoch))
        if self.relabel_epochs is not None and steps is not None:
            rounds = max(1, round(steps / (self.relabel_epochs * epoch)))
            every = math.ceil(steps / rounds)
        return StageConfig(steps=steps, learning_rate=self.learning_rate, relabel_every=every)


@dataclass(frozen=True)
class Length:
    """Of a stage, in steps."""

    steps: int
    learning_rate: float
    relabel_every: int | None
