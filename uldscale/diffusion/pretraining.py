"""Networks and losses of a small latent diffusion model, for training from nothing.

A latent diffusion model (Rombach et al. 2022) is an autoencoder with a small Kullback-Leibler term and a UNet that
predicts the noise added to its latents (Ho et al. 2020).
"""

from typing import Self

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from pydantic import model_validator
from torch import Tensor

from uldscale.config import Settings
from uldscale.diffusion.folder import locate, read_part
from uldscale.diffusion.optimisation import OptimisationConfig
from uldscale.errors import ModelError

PROMPT_WIDTH = 32
"""Width of the one token, all zeros, that stands in for a prompt."""

TIMESTEPS = 1000


class VaeConfig(Settings):
    """Autoencoder. Every level but the first halves the side: three levels make 4 x 32 x 32 latents of 128 px."""

    channels: tuple[int, ...] = (24, 48, 64)
    """Channels of each level."""
    norm_groups: int = 8
    """Groups of the normalisation; must divide all channels."""
    gradient_weight: float = 0.5
    """Weight of the L1 distance of image gradients."""
    kl_weight: float = 3e-4
    """Weight of the mean Kullback-Leibler divergence of a latent value from a unit normal."""
    optimisation: OptimisationConfig = OptimisationConfig(steps=1200, batch=4, learning_rate=7e-4, average=0.995)

    @model_validator(mode="after")
    def _check(self) -> Self:
        _require_groups(self.channels, self.norm_groups)
        return self


class UnetConfig(Settings):
    """Denoiser. The lowest level attends to the prompt; the decoder has layers_per_block + 1 ResNet blocks a level."""

    channels: tuple[int, ...] = (48, 96, 128)
    """Channels of each level."""
    layers_per_block: int = 2
    """ResNet blocks of an encoder level."""
    heads: int = 8
    """Attention heads; must divide the channels of the lowest level."""
    norm_groups: int = 16
    """Groups of the normalisation; must divide all channels."""
    optimisation: OptimisationConfig = OptimisationConfig(steps=7000)

    @model_validator(mode="after")
    def _check(self) -> Self:
        _require_groups(self.channels, self.norm_groups)
        if self.channels[-1] % self.heads:
            raise ValueError(f"heads must divide the lowest level's {self.channels[-1]} channels, got {self.heads}")
        return self


def _require_groups(channels: tuple[int, ...], groups: int) -> None:
    if any(count % groups for count in channels):
        raise ValueError(f"norm_groups must divide all of channels {channels}, got {groups}")


def make_vae(config: VaeConfig, image_size: int) -> AutoencoderKL:
    """Untrained autoencoder of images (B, 3, S, S) in [-1, 1] to latents (B, 4, S / 4, S / 4) with three levels."""
    levels = len(config.channels)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=config.channels,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=config.norm_groups,
        sample_size=image_size,
        mid_block_add_attention=False,
    )


def make_unet(config: UnetConfig, latent_size: int) -> UNet2DConditionModel:
    """Untrained denoiser of latents (B, 4, S, S); only the lowest level is worth the cost of attention."""
    plain = len(config.channels) - 1
    unet = UNet2DConditionModel(
        sample_size=latent_size,
        in_channels=4,
        out_channels=4,
        block_out_channels=config.channels,
        layers_per_block=config.layers_per_block,
        down_block_types=("DownBlock2D",) * plain + ("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",) + ("UpBlock2D",) * plain,
        cross_attention_dim=PROMPT_WIDTH,
        # diffusers takes this name for the number of heads (huggingface/diffusers issue 2011).
        attention_head_dim=config.heads,
        norm_num_groups=config.norm_groups,
    )
    return _plain_attention(unet)


def read_vae(model: str) -> AutoencoderKL:
    """The autoencoder of a model, float32, to be used as it is. Raises ModelError."""
    vae: AutoencoderKL = read_part(AutoencoderKL, locate(model), "vae", torch.float32)
    return vae


def read_unet(model: str) -> UNet2DConditionModel:
    """The UNet of a model, float32, to be trained on. Raises ModelError, also for one that wants another prompt than ours."""
    unet: UNet2DConditionModel = read_part(UNet2DConditionModel, locate(model), "unet", torch.float32)
    if (width := unet.config.cross_attention_dim) != PROMPT_WIDTH:
        raise ModelError(
            f"{model}/unet takes prompts {width} numbers wide, wanted {PROMPT_WIDTH}: a model of `uldscale pretrain`"
        )
    return _plain_attention(unet)


def _plain_attention(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    # On a CPU the backward pass of fused attention is slow: with 64 tokens plain attention makes a step a sixth faster.
    unet.set_attn_processor(AttnProcessor())
    return unet


def make_scheduler() -> DDPMScheduler:
    """Noise schedule of Stable Diffusion 1.x."""
    return DDPMScheduler(
        num_train_timesteps=TIMESTEPS, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
    )


def pixels(images: Tensor) -> Tensor:
    """uint8 (B, S, S, 3) to float32 (B, 3, S, S) in [-1, 1]."""
    return images.permute(0, 3, 1, 2).float().div(127.5).sub(1)


def latent_shape(config: VaeConfig, images: Tensor) -> tuple[int, ...]:
    """Shape of the latents of images (B, 3, S, S)."""
    side = images.shape[-1] // 2 ** (len(config.channels) - 1)
    return len(images), 4, side, side


def vae_loss(vae: AutoencoderKL, images: Tensor, noise: Tensor, config: VaeConfig) -> Tensor:
    """L1 of pixels and of their gradients plus a small KL term; images (B, 3, S, S) in [-1, 1], unit normal noise."""
    posterior = vae.encode(images).latent_dist
    restored = vae.decode(posterior.mean + posterior.std * noise).sample.float()
    reconstruction = F.l1_loss(restored, images) + config.gradient_weight * _gradient_distance(restored, images)
    divergence: Tensor = posterior.kl().mean() / posterior.mean[0].numel()
    return reconstruction + config.kl_weight * divergence


def _gradient_distance(a: Tensor, b: Tensor) -> Tensor:
    """L1 distance of differences of neighbouring pixels, which is what keeps edges sharp."""
    return F.l1_loss(a.diff(dim=-1), b.diff(dim=-1)) + F.l1_loss(a.diff(dim=-2), b.diff(dim=-2))


def unit_scale(latents: Tensor) -> float:
    """Factor that gives latents the standard deviation 1 (Rombach et al. 2022, appendix G)."""
    return 1 / float(latents.std())


def stratified_timesteps(count: int, random: torch.Generator) -> Tensor:
    """One timestep (count,) from each of `count` equal strata: uniform, with less variance than independent draws."""
    position = (torch.randperm(count, generator=random) + torch.rand(count, generator=random)) / count
    return (position * TIMESTEPS).long().clamp(max=TIMESTEPS - 1)


def denoising_loss(
    unet: UNet2DConditionModel, latents: Tensor, noise: Tensor, timesteps: Tensor, alphas_cumprod: Tensor
) -> Tensor:
    """Mean squared error of the predicted noise (Ho et al. 2020, eq. 14); scaled latents (B, 4, S, S)."""
    signal = alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    noisy = signal.sqrt() * latents + (1 - signal).sqrt() * noise
    prompt = torch.zeros(len(latents), 1, PROMPT_WIDTH, device=latents.device)
    return F.mse_loss(unet(noisy, timesteps, prompt).sample.float(), noise)
