"""What the folder of a pretrained model says of itself."""

import shlex

from diffusers import AutoencoderKL, UNet2DConditionModel

from uldscale.stages.pretrain_config import PretrainConfig


def model_card(
    config: PretrainConfig, job: str, images: int, fingerprint: str, vae: AutoencoderKL, unet: UNet2DConditionModel
) -> str:
    """Markdown: what is there, what it was trained on, and how to make it again."""
    return f"""# A small latent diffusion model

In diffusers layout: `vae/` (AutoencoderKL, {vae.num_parameters() / 1e6:.2f} M parameters), `unet/`
(UNet2DConditionModel, {unet.num_parameters() / 1e6:.2f} M), `scheduler/`, and `prompt_embeds.safetensors`, the one
prompt (zeros) it was trained with, in place of a text encoder. Weights are float16.

Trained without annotations on {images} images{_more_images(config)} at {config.data.size} px, index {fingerprint}:

    data: {config.data.model_dump(exclude_defaults=True)}

- autoencoder: {_autoencoder(config)}
- UNet: {_denoiser(config)}, noise prediction, moving average of the weights

All settings are in `pretraining.json`. To make it again:

    uldscale pretrain {shlex.quote(job)}
"""


def _more_images(config: PretrainConfig) -> str:
    mirrored = " and their mirror images" if config.mirror else ""
    views = f" in {config.views.count} views each (the autoencoder: in one)" if config.views.count > 1 else ""
    return mirrored + views


def _autoencoder(config: PretrainConfig) -> str:
    steps = config.vae.optimisation
    return f"that of {config.start}" if config.start else f"{steps.steps} steps of {steps.batch} images"


def _denoiser(config: PretrainConfig) -> str:
    steps = config.unet.optimisation
    return f"{steps.steps} steps of {steps.batch} images" + (f" from that of {config.start}" if config.start else "")
