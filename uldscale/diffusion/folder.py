"""A model folder: where it is, or where it comes from, and how its parts are read.

In diffusers layout it holds unet, vae, scheduler, and either prompt_embeds.safetensors or text_encoder and tokenizer (SDXL:
also text_encoder_2 and tokenizer_2); in that of transformers config.json and model.safetensors.
"""

import hashlib
import json
import os
import re
from importlib import resources
from typing import Any

import huggingface_hub
import torch
from huggingface_hub import errors as hub
from safetensors import SafetensorError

from uldscale import files
from uldscale.diffusion.architectures import RANDOM, Kind
from uldscale.errors import ModelError

EMBEDDED = "tiny-ldm"
"""Name of the model that ships with the package."""

PROMPT_EMBEDS = "prompt_embeds.safetensors"
NOISE = "scheduler/scheduler_config.json"
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")

_WEIGHTS = re.compile(r"(diffusion_pytorch_)?model(-\d+-of-\d+)?\.safetensors")
_PARTS = ("unet", "vae", "scheduler", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
_CONFIGURATIONS = ("config.json", *(f"{part}/*.{kind}" for part in _PARTS for kind in ("json", "txt")))
_MODEL_FILES = (
    PROMPT_EMBEDS,
    "model.safetensors",
    "model-*-of-*.safetensors",
    *(f"{part}/diffusion_pytorch_model{shard}.safetensors" for part in _PARTS[:2] for shard in ("", "-*-of-*")),
    *(f"{part}/model{shard}.safetensors" for part in _PARTS[3:5] for shard in ("", "-*-of-*")),
)

BROKEN_CONNECTION: type[BaseException] = hub.HfHubHTTPError.__mro__[1]
"""Of the hub's client, whose HTTP library, and with it the name of this error, changes with its version."""

UNREADABLE = (OSError, ValueError, RuntimeError, KeyError, SafetensorError, hub.StrictDataclassError)
"""What libraries raise for files that are not what their names say."""

_POINTER = b"version https://git-lfs.github.com/spec/"


def locate(model: str, revision: str | None = None, weights: bool = True) -> str:
    """Local folder of a model: shipped, a folder, or fetched from the hub, on demand without weights. Raises ModelError."""
    if model == EMBEDDED:
        folder = str(resources.files("uldscale") / "tiny_ldm")
        if not os.path.isdir(folder):
            raise ModelError(f"model {EMBEDDED!r}: {folder} is not there; reinstall uldscale or name another model")
        return folder
    if os.path.isdir(model):
        return model
    if HUB_ID.fullmatch(model) is None:
        wanted = f"a folder in diffusers layout or of DINOv2, owner/name of the hub, {EMBEDDED}, or {', '.join(RANDOM)}"
        raise ModelError(f"model folder {model!r} is not there; wanted {wanted}")
    return download(model, revision, [*_CONFIGURATIONS, *(_MODEL_FILES if weights else ())])


def kind_of(folder: str) -> Kind:
    """What a model folder holds, as its configuration says, by which CleanDIFT is Stable Diffusion. Raises ModelError."""
    path = os.path.join(folder, "config.json")
    if os.path.isdir(os.path.join(folder, "unet")) or not os.path.isfile(path):
        return "stable-diffusion"
    try:
        found = files.read_json(path).get("model_type")
    except (ValueError, AttributeError) as error:
        raise ModelError(f"{path} cannot be read: {first_line(error)}") from error
    if found != "dinov2":
        wanted = "wanted dinov2, or unet, vae and scheduler in diffusers layout"
        raise ModelError(f"{folder} holds a model of type {found!r}; {wanted}")
    return "dinov2"


def download(model: str, revision: str | None, patterns: list[str]) -> str:
    """Folder in the cache of the hub with the files of a model that fit the patterns. Raises ModelError."""
    try:
        return str(huggingface_hub.snapshot_download(model, revision=revision, allow_patterns=patterns))
    except hub.GatedRepoError:
        reason = "is gated; accept its licence on the hub and log in with `hf auth login`"
    except hub.RepositoryNotFoundError:
        reason = "is neither a folder here nor a model of the hub; check the name, or log in with `hf auth login`"
    except hub.RevisionNotFoundError:
        reason = f"has no revision {revision!r} on the hub"
    except hub.HFValidationError as error:
        reason = f"is neither a folder here nor a name that the hub takes: {first_line(error)}"
    except (OSError, BROKEN_CONNECTION) as error:
        trouble = "is neither a folder here nor in the cache, and the hub does not answer"
        # Only the machine at hand gives its errors a number.
        if isinstance(error, OSError) and error.errno is not None:
            trouble = "cannot be kept in the cache of the hub (HF_HOME, which needs space and the right to write)"
        reason = f"{trouble}: {first_line(error)}"
    raise ModelError(f"model {model!r} {reason}")


def weight_files(folder: str, part: str) -> list[str]:
    """Paths of the weights of a part, "" for the whole, relative to the model folder, sorted. Raises ModelError when there are none."""
    here = os.path.join(folder, part) if part else folder
    if not os.path.isfile(os.path.join(here, "config.json")):
        wanted = "a diffusers folder with unet, vae and scheduler" if part else "config.json and model.safetensors"
        raise ModelError(f"{here}/config.json is not there; wanted {wanted}")
    names = sorted(os.listdir(here))
    found = [os.path.join(part, name) for name in names if _WEIGHTS.fullmatch(name)]
    if not found:
        raise ModelError(f"{here} has no safetensors, only {', '.join(names)}; pickles are never read, convert them")
    for name in found:
        path = os.path.join(folder, name)
        try:
            refuse_pointer(path, files.read_bytes(path, len(_POINTER)))
        except OSError as error:
            raise ModelError(f"{path} cannot be read: {first_line(error)}") from error
    return found


def refuse_pointer(path: str, content: bytes) -> None:
    """Raises ModelError for what a clone without Git LFS leaves in the place of a file; `content` is how the file begins."""
    if content.startswith(_POINTER):
        raise ModelError(f"{path} is a Git LFS pointer, not the file itself; run `git lfs pull` in its repository")


def read_part(kind: Any, folder: str, part: str, dtype: torch.dtype) -> Any:
    """The model in a part, "" for the whole, of a class of diffusers or transformers. Raises ModelError."""
    weight_files(folder, part)
    here = os.path.join(folder, part) if part else folder
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
        raise ModelError(f"{here} cannot be read as {kind.__name__}: {first_line(error)}") from error
    # diffusers and transformers fill what the file lacks with random numbers and go on.
    if missing := sorted(report["missing_keys"]):
        lack = f"{len(missing)} of the weights of config.json, first {missing[0]!r}"
        raise ModelError(f"{here}: the file lacks {lack}; take config.json and weights from the same model")
    return model


def fingerprint(folder: str, weights: list[str], settings: str = NOISE) -> str:
    """sha256 over weight files and over what is done with them: the settings of their parts and of the noise.

    weights, settings: relative to the folder. Settings that begin with "_" tell who wrote the file and don't count.
    """
    parts = {os.path.dirname(name) for name in weights} - {""}
    total = hashlib.sha256()
    for name in sorted(weights):
        with open(os.path.join(folder, name), "rb") as file:
            total.update(f"{name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    for name in sorted([*(f"{part}/config.json" for part in parts), settings]):
        held = files.read_json(os.path.join(folder, name))
        known = {key: value for key, value in held.items() if not key.startswith("_")}
        total.update(f"{name} {json.dumps(known, sort_keys=True)}\n".encode())
    return total.hexdigest()


def display_name(model: str) -> str:
    """Name of a model for people: of a folder without the way to it."""
    return os.path.basename(os.path.abspath(model)) if os.path.isdir(model) else model


def first_line(error: BaseException) -> str:
    """What an error of a library says, without its advice."""
    return str(error).strip().partition("\n")[0]
