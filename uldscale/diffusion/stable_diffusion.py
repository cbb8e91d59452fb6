"""Latent diffusion as a backbone: UNet and VAE of SD 1.x, 2.x or XL in diffusers layout."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from uldscale.diffusion import architectures, prompt, taps
from uldscale.diffusion.architectures import ARCHITECTURES, Architecture
from uldscale.diffusion.backbone import Backbone, BackboneConfig, Mode
from uldscale.diffusion.folder import (
    UNREADABLE,
    display_name,
    fingerprint,
    first_line,
    locate,
    read_part,
    weight_files,
)
from uldscale.diffusion.prompt import Prompt
from uldscale.diffusion.taps import Tap
from uldscale.errors import ModelError

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel


@dataclass(frozen=True)
class StableDiffusion(Backbone):
    """Taps of the decoder of a UNet, called with noised latents at a few timesteps.

    alphas_cumprod: (training steps,) float32; prompt_embeds: (1, tokens, width); pooled_prompt_embeds: (1, pooled width) for SDXL.
    """

    unet: "UNet2DConditionModel"
    vae: "AutoencoderKL"
    alphas_cumprod: Tensor
    prompt_embeds: Tensor
    prediction_type: str
    pooled_prompt_embeds: Tensor | None = None

    modes: ClassVar[tuple[Mode, ...]] = ("noise", "clean", "inversion")

    @classmethod
    def _load(cls, config: BackboneConfig, device: str | torch.device) -> Self:
        parts = _random(config) if config.model in ARCHITECTURES else _read(config)
        pooled = parts.prompt.pooled
        return cls(
            name=display_name(config.model),
            weight_hash=cls._weight_hash(config, parts.folder, parts.unet.config),
            unet=_freeze(parts.unet, device),
            vae=_freeze(parts.vae, device),
            alphas_cumprod=parts.scheduler.alphas_cumprod.float().to(device),
            prompt_embeds=parts.prompt.embeds.to(device, parts.unet.dtype),
            prediction_type=str(parts.scheduler.config.prediction_type),
            pooled_prompt_embeds=None if pooled is None else pooled.to(device, parts.unet.dtype),
        )

    @classmethod
    def _outline(cls, config: BackboneConfig, *, weights: bool) -> Self:
        known = ARCHITECTURES.get(config.model)
        folder = "" if known else locate(config.model, config.revision, weights=weights)
        shapes = (known.unet, known.vae) if known else _configurations(folder)
        unet, vae = architectures.outline(*shapes)
        schedule = _scheduler(known) if known else _read_scheduler(folder)
        with torch.device("meta"):
            embedded = prompt.random_prompt(unet.config)
        return cls(
            name=display_name(config.model),
            weight_hash=cls._weight_hash(config, folder, unet.config) if weights else "",
            unet=unet,
            vae=vae,
            alphas_cumprod=schedule.alphas_cumprod.float(),
            prompt_embeds=embedded.embeds,
            prediction_type=str(schedule.config.prediction_type),
            pooled_prompt_embeds=embedded.pooled,
        )

    @classmethod
    def _weight_hash(cls, config: BackboneConfig, folder: str, unet: Mapping[str, Any]) -> str:
        if config.model in ARCHITECTURES:
            return f"{config.model}-{architectures.VERSION}"
        prompt_files = prompt.weights(folder, config.prompt, unet)
        return fingerprint(folder, [*weight_files(folder, "unet"), *weight_files(folder, "vae"), *prompt_files])

    @property
    def device(self) -> torch.device:
        return self.prompt_embeds.device

    @property
    def dtype(self) -> torch.dtype:
        """Arithmetic of the UNet and the VAE."""
        return self.prompt_embeds.dtype

    @property
    def pixels_per_cell(self) -> int:
        """Side of a latent cell in pixels of the image."""
        return 1 << (len(self.vae.config.block_out_channels) - 1)

    @property
    def image_size(self) -> int:
        """Side of the images that it was trained on."""
        return int(self.unet.config.sample_size) * self.pixels_per_cell

    @property
    def image_multiple(self) -> int:
        """Every level of the UNet halves evenly."""
        return self.pixels_per_cell << (len(self.unet.config.block_out_channels) - 1)

    @property
    def num_parameters(self) -> int:
        return int(self.unet.num_parameters() + self.vae.num_parameters())

    @property
    def tap_names(self) -> tuple[str, ...]:
        return taps.decoder_blocks(self.unet)

    def describe(self, names: Sequence[str], image_size: int) -> list[Tap]:
        return taps.describe(self.unet, names, image_size // self.pixels_per_cell)

    def widest_map(self, image_size: int) -> int:
        """Of the VAE."""
        return int(self.vae.config.block_out_channels[0]) * image_size**2

    def latents(self, images: Tensor) -> Tensor:
        """Mean of the posterior of the VAE, shifted and scaled as its configuration says.

        images: (B, 3, S, S) in [-1, 1]. Returns (B, Z, S / pixels_per_cell, S / pixels_per_cell), float32.
        """
        mean: Tensor = self.vae.encode(images.to(self.dtype)).latent_dist.mean.float()
        config = self.vae.config
        shift = mean.new_tensor(config.latents_mean or config.shift_factor or 0.0).reshape(-1, 1, 1)
        spread = mean.new_tensor(config.latents_std or 1.0).reshape(-1, 1, 1)
        return (mean - shift) * (float(config.scaling_factor) / spread)

    def maps(self, names: Sequence[str], latents: Tensor, timesteps: Tensor) -> dict[str, Tensor]:
        return taps.read(self.unet, names, *self.call(latents, timesteps))

    def call(self, latents: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """Arguments of the UNet: latents in its arithmetic, timesteps, and what else it takes."""
        condition = self.condition(len(latents), latents.shape[-1] * self.pixels_per_cell)
        return latents.to(self.dtype), timesteps, condition

    def compile(self, names: Sequence[str]) -> None:
        taps.compile_blocks(self.unet, names)

    def condition(self, batch: int, image_size: int) -> dict[str, Any]:
        """What the UNet takes beside latents and timesteps: see Prompt.condition."""
        return Prompt(self.prompt_embeds, self.pooled_prompt_embeds).condition(batch, image_size)


class _Parts(NamedTuple):
    unet: Any
    vae: Any
    scheduler: Any
    prompt: Prompt
    folder: str
    """Empty where nothing was read."""


def _read(config: BackboneConfig) -> _Parts:
    """From a folder or the hub."""
    # diffusers takes seconds to import, and the settings above are read by commands that never load a model.
    from diffusers import AutoencoderKL, UNet2DConditionModel

    folder = locate(config.model, config.revision)
    dtype = getattr(torch, config.dtype)
    unet = read_part(UNet2DConditionModel, folder, "unet", dtype)
    embedded = prompt.read(folder, config.prompt, unet.config)
    vae = read_part(AutoencoderKL, folder, "vae", dtype)
    if (takes := unet.config.in_channels) != (makes := vae.config.latent_channels):
        wanted = "wanted a model that makes images of text alone, not one for inpainting or upscaling"
        raise ModelError(f"{folder}/unet takes {takes} channels, but the VAE makes {makes}; {wanted}")
    return _Parts(unet, vae, _read_scheduler(folder), embedded, folder)


def _configurations(folder: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Of the UNet and the VAE."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    try:
        unet = UNet2DConditionModel.load_config(folder, subfolder="unet")
        return unet, AutoencoderKL.load_config(folder, subfolder="vae")
    except UNREADABLE as error:
        lack = "no readable unet/config.json and vae/config.json"
        raise ModelError(f"{folder} has {lack}: {first_line(error)}") from error


def _read_scheduler(folder: str) -> Any:
    """All schedulers with betas define them alike, so one class reads them all."""
    from diffusers import DDPMScheduler

    try:
        settings = DDPMScheduler.load_config(folder, subfolder="scheduler", local_files_only=True)
        scheduler = DDPMScheduler.from_config(settings)
    except UNREADABLE as error:
        raise ModelError(f"{folder}/scheduler cannot be read: {first_line(error)}") from error
    # The class would take its own defaults for what is not there.
    if "beta_schedule" not in settings and settings.get("trained_betas") is None:
        kind = settings.get("_class_name", "no class")
        raise ModelError(
            f"{folder}/scheduler is of {kind} and has no betas; wanted a model of diffusion with a beta_schedule"
        )
    return scheduler


def _random(config: BackboneConfig) -> _Parts:
    """A public architecture with weights and prompt embeddings out of one generator."""
    architecture = ARCHITECTURES[config.model]
    unet, vae = architectures.outline(architecture.unet, architecture.vae)
    random = torch.Generator().manual_seed(0)
    for model in (unet, vae):
        architectures.fill(model, getattr(torch, config.dtype), random)
    embedded = prompt.random_prompt(unet.config, random)
    return _Parts(unet, vae, _scheduler(architecture), embedded, folder="")


def _scheduler(architecture: Architecture) -> Any:
    from diffusers import DDPMScheduler

    return DDPMScheduler(**architectures.SCHEDULE, prediction_type=architecture.prediction_type)


def _freeze(model: Any, device: str | torch.device) -> Any:
    # channels_last is what convolution kernels work in; elsewhere they reorder memory in every layer.
    return model.requires_grad_(False).eval().to(device=device, memory_format=torch.channels_last)
