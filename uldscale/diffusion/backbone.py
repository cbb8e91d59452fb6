"""The frozen latent diffusion model that the features come from: any SD 1.x/2.x UNet and VAE in diffusers layout."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from uldscale import files
from uldscale.config import Settings
from uldscale.diffusion.folder import (
    EMBEDDED,
    PROMPT_EMBEDS,
    display_name,
    fingerprint,
    first_line,
    locate,
    weight_files,
)
from uldscale.errors import ModelError

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel

UNREADABLE = (OSError, ValueError, RuntimeError, KeyError, SafetensorError)
"""What libraries raise for files that are not what their names say."""


class BackboneConfig(Settings):
    """Which diffusion model the features come from."""

    model: str = EMBEDDED
    """tiny-ldm (shipped with the package), a folder in diffusers layout, or a hub id such as owner/name."""
    revision: str | None = None
    """Commit, tag or branch of a hub model; pin a commit."""
    prompt: str = ""
    """Text condition, embedded once."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the model; bfloat16 pays off on GPUs, and by half on CPUs with bfloat16 instructions."""


@dataclass(frozen=True)
class Backbone:
    """A loaded model, in evaluation mode and without gradients.

    name: for people; weight_hash: sha256 of all weights that the features depend on;
    alphas_cumprod: (training steps,) float32; prompt_embeds: (1, tokens, width).
    """

    name: str
    weight_hash: str
    unet: "UNet2DConditionModel"
    vae: "AutoencoderKL"
    alphas_cumprod: Tensor
    prompt_embeds: Tensor
    prediction_type: str

    @classmethod
    def load(cls, config: BackboneConfig, device: str | torch.device = "cpu") -> "Backbone":
        """Load from a folder or the hub; only safetensors are read. Raises ModelError."""
        # diffusers takes seconds to import, and the settings above are read by commands that never load a model.
        from diffusers import AutoencoderKL, UNet2DConditionModel

        folder = locate(config.model, config.revision)
        dtype = getattr(torch, config.dtype)
        unet = _read_part(UNet2DConditionModel, folder, "unet", dtype)
        _refuse_extra_conditions(unet, folder)
        alphas_cumprod, prediction_type = _read_schedule(folder)
        prompt_embeds, prompt_files = _read_prompt(folder, config.prompt)
        weights = [*weight_files(folder, "unet"), *weight_files(folder, "vae"), *prompt_files]
        return cls(
            name=display_name(config.model),
            weight_hash=fingerprint(folder, weights),
            unet=_freeze(unet, device),
            vae=_freeze(_read_part(AutoencoderKL, folder, "vae", dtype), device),
            alphas_cumprod=alphas_cumprod.to(device),
            prompt_embeds=prompt_embeds.to(device, dtype),
            prediction_type=prediction_type,
        )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
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
    def image_multiple(self) -> int:
        """Sides of images must be a multiple of this, so that every level of the UNet halves evenly."""
        return self.pixels_per_cell << (len(self.unet.config.block_out_channels) - 1)

    def latents(self, images: Tensor) -> Tensor:
        """Mean of the posterior of the VAE times its scaling factor.

        images: (B, 3, S, S) in [-1, 1]. Returns (B, Z, S / pixels_per_cell, S / pixels_per_cell), float32.
        """
        mean: Tensor = self.vae.encode(images.to(self.dtype)).latent_dist.mean
        return mean.float() * float(self.vae.config.scaling_factor)


def _read_part(kind: Any, folder: str, part: str, dtype: torch.dtype) -> Any:
    """The UNet, the VAE or the text encoder."""
    weight_files(folder, part)
    try:
        model, report = kind.from_pretrained(
            folder,
            subfolder=part,
            torch_dtype=dtype,
            use_safetensors=True,
            low_cpu_mem_usage=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except UNREADABLE as error:
        raise ModelError(f"{folder}/{part} cannot be read as {kind.__name__}: {first_line(error)}") from error
    # diffusers and transformers fill what the file lacks with random numbers and go on.
    if missing := sorted(report["missing_keys"]):
        lack = f"{len(missing)} of the weights of config.json, first {missing[0]!r}"
        raise ModelError(f"{folder}/{part}: the file lacks {lack}; take config.json and weights from the same model")
    return model


def _refuse_extra_conditions(unet: Any, folder: str) -> None:
    for key in ("addition_embed_type", "class_embed_type", "num_class_embeds", "encoder_hid_dim_type"):
        if (value := unet.config.get(key)) is not None:
            wanted = "wanted a model of the SD 1.x or 2.x kind"
            raise ModelError(f"{folder}/unet needs more than a prompt embedding ({key}: {value}); {wanted}")


def _read_schedule(folder: str) -> tuple[Tensor, str]:
    """alphas_cumprod and the prediction type; all schedulers define betas alike, so one class reads them all."""
    from diffusers import DDPMScheduler

    try:
        scheduler = DDPMScheduler.from_pretrained(folder, subfolder="scheduler", local_files_only=True)
    except UNREADABLE as error:
        raise ModelError(f"{folder}/scheduler cannot be read: {first_line(error)}") from error
    return scheduler.alphas_cumprod.float(), str(scheduler.config.prediction_type)


def _read_prompt(folder: str, prompt: str) -> tuple[Tensor, list[str]]:
    """Embedding (1, tokens, width) and the weight files that it comes from."""
    path = os.path.join(folder, PROMPT_EMBEDS)
    if prompt == "" and os.path.isfile(path):
        try:
            embeds = load_file(path)["prompt_embeds"]
        except UNREADABLE as error:
            raise ModelError(f"{path} does not hold prompt_embeds: {first_line(error)}") from error
        return embeds.float().reshape(1, *embeds.shape[-2:]), [PROMPT_EMBEDS]
    if not os.path.isdir(os.path.join(folder, "text_encoder")):
        wanted = f"wanted that, or {PROMPT_EMBEDS} and an empty prompt"
        raise ModelError(f"{folder} has no text_encoder to embed the prompt {prompt!r}; {wanted}")
    return _embed(folder, prompt), weight_files(folder, "text_encoder")


def _embed(folder: str, prompt: str) -> Tensor:
    """Last hidden state of the CLIP text encoder for the padded prompt: the condition that SD was trained with."""
    from transformers import CLIPTextModel, CLIPTokenizer

    encoder = _read_part(CLIPTextModel, folder, "text_encoder", torch.float32)
    # transformers makes a tokenizer without words of a folder without files.
    names = set(files.names(f"{folder}/tokenizer"))
    if not ({"vocab.json", "merges.txt"} <= names or "tokenizer.json" in names):
        raise ModelError(f"{folder}/tokenizer lacks vocab.json and merges.txt, or tokenizer.json; copy them there")
    tokenizer = CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer", local_files_only=True)
    length = encoder.config.max_position_embeddings
    tokens = tokenizer(prompt, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
    with torch.no_grad():
        embeds: Tensor = encoder.eval()(tokens.input_ids).last_hidden_state
    return embeds


def _freeze(model: Any, device: str | torch.device) -> Any:
    # channels_last is what convolution kernels work in; elsewhere they reorder memory in every layer.
    return model.requires_grad_(False).eval().to(device=device, memory_format=torch.channels_last)
