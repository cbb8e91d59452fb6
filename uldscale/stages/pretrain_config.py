"""What the verb `pretrain` takes: a model, its images and its training."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from uldscale.config import Settings
from uldscale.data.index import DataConfig
from uldscale.diffusion.pretraining import UnetConfig, VaeConfig
from uldscale.models.views import ViewConfig


class PretrainConfig(Settings):
    """A small latent diffusion model and what it is trained on."""

    output: str
    """Local folder of the model."""
    data: DataConfig
    """Images; only the training split is used, and no annotation."""
    vae: VaeConfig = VaeConfig()
    unet: UnetConfig = UnetConfig()
    start: str | None = None
    """Folder of a model of this kind to go on from: its autoencoder stays as it is, its UNet learns. `vae` and the layers of
    `unet` are then those of the model. None: both from nothing."""
    mirror: bool = True
    """Train on the mirror images as well."""
    views: ViewConfig = ViewConfig(count=1)
    """Views of each image that the UNet learns from; it knows turned images only when it has seen some."""
    seed: int = Field(0, ge=0)
    """Start weights, batches and noise."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """Of the arithmetic; weights and moments are float32 in any case."""
    shares: int = Field(1, ge=1)
    """Parts of a batch that are computed side by side; the number of cores is best on a CPU that others use as well."""
    checkpoint_steps: int = Field(250, ge=1)
    """Steps between checkpoints."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        wanted = 2 ** (len(self.vae.channels) + len(self.unet.channels) - 2)
        if self.data.size % wanted:
            raise ValueError(f"data.size must be a multiple of {wanted} for these levels, got {self.data.size}")
        return self

    def identity(self) -> dict[str, Any]:
        """What the weights depend on."""
        return self.model_dump(mode="json", exclude={"output", "shares", "checkpoint_steps"})

    def resumable(self) -> dict[str, Any]:
        """What must stay the same when a run goes on: the UNet may get more or fewer steps."""
        tree = self.identity()
        del tree["unet"]["optimisation"]["steps"]
        return tree
