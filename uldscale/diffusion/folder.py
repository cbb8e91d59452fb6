"""A model folder in diffusers layout: where it is, or where it comes from, and which files hold its weights.

It holds unet, vae, scheduler, and either prompt_embeds.safetensors or text_encoder and tokenizer.
"""

import hashlib
import os
import re
from importlib import resources

import huggingface_hub
from huggingface_hub import errors as hub

from uldscale.errors import ModelError

EMBEDDED = "tiny-ldm"
"""Name of the model that ships with the package."""

PROMPT_EMBEDS = "prompt_embeds.safetensors"

_WEIGHTS = re.compile(r"(diffusion_pytorch_)?model(-\d+-of-\d+)?\.safetensors")
_DOWNLOADS = (
    PROMPT_EMBEDS,
    *(f"{part}/*.json" for part in ("unet", "vae", "scheduler", "text_encoder", "tokenizer")),
    "tokenizer/*.txt",
    *(f"{part}/diffusion_pytorch_model{shard}.safetensors" for part in ("unet", "vae") for shard in ("", "-*-of-*")),
    "text_encoder/model.safetensors",
)


def locate(model: str, revision: str | None = None) -> str:
    """Local folder of a model: shipped, a folder, or fetched from the hub. Raises ModelError."""
    if model == EMBEDDED:
        folder = str(resources.files("uldscale") / "tiny_ldm")
        if not os.path.isdir(folder):
            raise ModelError(f"model {EMBEDDED!r}: {folder} is not there; reinstall uldscale or name another model")
        return folder
    if os.path.isdir(model):
        return model
    if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", model) is None:
        wanted = f"a folder in diffusers layout, owner/name of the hub, or {EMBEDDED}"
        raise ModelError(f"model folder {model!r} is not there; wanted {wanted}")
    return _download(model, revision)


def _download(model: str, revision: str | None) -> str:
    try:
        return str(huggingface_hub.snapshot_download(model, revision=revision, allow_patterns=list(_DOWNLOADS)))
    except hub.GatedRepoError:
        reason = "is gated; accept its licence on the hub and log in with `hf auth login`"
    except hub.RepositoryNotFoundError:
        reason = "is neither a folder here nor a model of the hub; check the name, or log in with `hf auth login`"
    except hub.RevisionNotFoundError:
        reason = f"has no revision {revision!r} on the hub"
    except OSError as error:
        reason = f"is neither a folder here nor in the cache, and the hub does not answer: {first_line(error)}"
    raise ModelError(f"model {model!r} {reason}")


def weight_files(folder: str, part: str) -> list[str]:
    """Paths of the weights of a part, relative to the model folder, sorted. Raises ModelError when there are none."""
    here = os.path.join(folder, part)
    if not os.path.isfile(os.path.join(here, "config.json")):
        raise ModelError(f"{here}/config.json is not there; wanted a diffusers folder with unet, vae and scheduler")
    names = sorted(os.listdir(here))
    found = [f"{part}/{name}" for name in names if _WEIGHTS.fullmatch(name)]
    if not found:
        raise ModelError(f"{here} has no safetensors, only {', '.join(names)}; pickles are never read, convert them")
    return found


def fingerprint(folder: str, weights: list[str]) -> str:
    """sha256 over names and contents of weight files; `weights` are relative to the folder."""
    total = hashlib.sha256()
    for name in sorted(weights):
        with open(os.path.join(folder, name), "rb") as file:
            total.update(f"{name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def display_name(model: str) -> str:
    """Name of a model for people: of a folder without the way to it."""
    return os.path.basename(os.path.abspath(model)) if os.path.isdir(model) else model


def first_line(error: BaseException) -> str:
    """What an error of a library says, without its advice."""
    return str(error).strip().partition("\n")[0]
