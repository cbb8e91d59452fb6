"""The condition of a UNet: the embedding of a prompt, and for SDXL the sizes that it was trained to look at."""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor

from uldscale import files
from uldscale.diffusion.folder import PROMPT_EMBEDS, UNREADABLE, first_line, read_part, weight_files
from uldscale.errors import ModelError

TOKENS = 77
"""Tokens that CLIP pads a prompt to."""

TIME_IDS = 6
"""Numbers about its image that SDXL looks at."""


class Prompt(NamedTuple):
    """An embedded prompt. embeds: (1, tokens, width); pooled: (1, pooled width) for SDXL, else None."""

    embeds: Tensor
    pooled: Tensor | None

    def condition(self, batch: int, image_size: int) -> dict[str, Any]:
        """What the UNet takes beside latents and timesteps, as keyword arguments, for square images.

        encoder_hidden_states: (batch, tokens, width); for SDXL also added_cond_kwargs with text_embeds (batch, pooled
        width) and time_ids (batch, 6), in pixels.
        """
        found: dict[str, Any] = {"encoder_hidden_states": self.embeds.expand(batch, -1, -1)}
        if self.pooled is not None:
            # Height and width of the original, top and left of the crop, height and width of the crop (SDXL, section 2.2).
            sizes = self.pooled.new_tensor([[image_size, image_size, 0, 0, image_size, image_size]])
            text = self.pooled.expand(batch, -1)
            found["added_cond_kwargs"] = {"text_embeds": text, "time_ids": sizes.expand(batch, -1)}
        return found


def random_prompt(unet: Mapping[str, Any], random: torch.Generator | None = None) -> Prompt:
    """A random prompt of the size and variance that CLIP gives, for a UNet of this configuration. Raises ModelError."""
    width, pooled = _widths(unet)
    embeds = torch.randn(1, TOKENS, width, generator=random)
    return Prompt(embeds, None if pooled is None else torch.randn(1, pooled, generator=random))


def weights(folder: str, text: str, unet: Mapping[str, Any]) -> list[str]:
    """The weight files that the embedding of a text comes from, for a UNet of this configuration.

    prompt_embeds.safetensors where the text is empty and the folder has one, else those of the text encoders. Raises
    ModelError.
    """
    pooled = _widths(unet)[1]
    if text == "" and os.path.isfile(os.path.join(folder, PROMPT_EMBEDS)):
        return [PROMPT_EMBEDS]
    return _encoder_weights(folder, text, *(["text_encoder"] if pooled is None else ["text_encoder", "text_encoder_2"]))


def read(folder: str, text: str, unet: Mapping[str, Any]) -> Prompt:
    """The text, embedded in float32 for a UNet of this configuration. Raises ModelError."""
    wanted = _widths(unet)
    if weights(folder, text, unet) == [PROMPT_EMBEDS]:
        prompt = _stored(folder, wanted[1] is not None)
    else:
        prompt = _embed(folder, text) if wanted[1] is None else _embed_sdxl(folder, text)
    _check_widths(prompt, wanted, folder)
    return prompt


def _check_widths(prompt: Prompt, wanted: tuple[int, int | None], folder: str) -> None:
    got = (prompt.embeds.shape[-1], None if prompt.pooled is None else prompt.pooled.shape[-1])
    if got != wanted:
        advice = "take both from one model; the SDXL refiner, which takes other numbers, is not supported"
        raise ModelError(
            f"{folder}: prompt embeddings have widths {got} (tokens, pooled), the UNet takes {wanted}; {advice}"
        )


def _widths(unet: Mapping[str, Any]) -> tuple[int, int | None]:
    """Width and pooled width (None but for SDXL) of the prompt embedding that a UNet of this configuration takes."""
    for key in ("addition_embed_type", "class_embed_type", "num_class_embeds", "encoder_hid_dim_type"):
        if (value := unet[key]) is not None and value != "text_time":
            wanted = "wanted a model of the SD 1.x, 2.x or XL base kind"
            raise ModelError(f"the UNet needs more than a prompt embedding ({key}: {value}); {wanted}")
    if unet["addition_embed_type"] is None:
        return unet["cross_attention_dim"], None
    pooled = unet["projection_class_embeddings_input_dim"] - TIME_IDS * unet["addition_time_embed_dim"]
    return unet["cross_attention_dim"], pooled


def _stored(folder: str, pooled: bool) -> Prompt:
    path = os.path.join(folder, PROMPT_EMBEDS)
    names = ("prompt_embeds", "pooled_prompt_embeds") if pooled else ("prompt_embeds",)
    try:
        held = load_file(path)
        embeds, *rest = (held[name].float() for name in names)
        return Prompt(embeds.reshape(1, *embeds.shape[-2:]), rest[0].reshape(1, -1) if pooled else None)
    except UNREADABLE as error:
        raise ModelError(f"{path} does not hold {' and '.join(names)}: {first_line(error)}") from error


def _encoder_weights(folder: str, text: str, *encoders: str) -> list[str]:
    lacking = [encoder for encoder in encoders if not os.path.isdir(os.path.join(folder, encoder))]
    if lacking:
        wanted = f"wanted {' and '.join(encoders)}, or {PROMPT_EMBEDS} and an empty prompt"
        raise ModelError(f"{folder} has no {lacking[0]} to embed the prompt {text!r}; {wanted}")
    return [name for encoder in encoders for name in weight_files(folder, encoder)]


def _embed(folder: str, text: str) -> Prompt:
    """Last hidden state of CLIP: the condition that SD 1.x and 2.x were trained with."""
    from transformers import CLIPTextModel

    return Prompt(_encode(CLIPTextModel, folder, text).last_hidden_state, None)


def _embed_sdxl(folder: str, text: str) -> Prompt:
    """Last but one hidden states of both encoders, side by side, and the projected embedding of the second."""
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    first = _encode(CLIPTextModel, folder, text)
    second = _encode(CLIPTextModelWithProjection, folder, text, "_2")
    return Prompt(torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1), second.text_embeds)


def _encode(kind: Any, folder: str, text: str, suffix: str = "") -> Any:
    """What a text encoder makes of the padded text."""
    from transformers import CLIPTokenizer

    encoder = read_part(kind, folder, f"text_encoder{suffix}", torch.float32)
    part = f"tokenizer{suffix}"
    # transformers makes a tokenizer without words of a folder without files.
    names = set(files.names(f"{folder}/{part}"))
    if not ({"vocab.json", "merges.txt"} <= names or "tokenizer.json" in names):
        raise ModelError(f"{folder}/{part} lacks vocab.json and merges.txt, or tokenizer.json; copy them there")
    tokenizer = CLIPTokenizer.from_pretrained(folder, subfolder=part, local_files_only=True)
    length = encoder.config.max_position_embeddings
    tokens = tokenizer(text, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
    with torch.no_grad():
        return encoder.eval()(tokens.input_ids, output_hidden_states=True)
