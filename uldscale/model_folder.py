"""A model folder, the detector at rest: here, in a bucket or on the Hugging Face hub.

    config.json                                           what it is (detector.DetectorConfig)
    network.safetensors  codec.safetensors  clusters.safetensors  visibility.safetensors
    README.md                                             its model card, of a folder that has one

Nothing else is read or sent. Whatever is wrong with a folder or with the hub is one line, a ModelError.
"""

import json
import os
import tempfile
from collections.abc import Callable
from typing import Any, TypeVar

import huggingface_hub
from huggingface_hub import errors as hub
from safetensors import SafetensorError

from uldscale import files
from uldscale.diffusion.folder import BROKEN_CONNECTION, HUB_ID, download, first_line, refuse_pointer
from uldscale.errors import ModelError

CONFIG, CARD = "config.json", "README.md"
WEIGHTS = ("network.safetensors", "codec.safetensors", "clusters.safetensors", "visibility.safetensors")

Tensors = TypeVar("Tensors")


def find(model: str, revision: str | None = None) -> str:
    """The folder of a model: a path, a URI, or owner/name of the hub, from which it is fetched into the hub's cache."""
    try:
        if files.exists(files.join(model, CONFIG)):
            return model
    except (OSError, ImportError, ValueError) as error:
        raise ModelError(f"model {model!r} cannot be looked for: {first_line(error)}") from None
    if os.path.isdir(model) or HUB_ID.fullmatch(model) is None:
        raise ModelError(
            f"{model!r} is not a model folder (no {CONFIG}); give the model/ folder of a finished run, or owner/name of the hub"
        )
    return find(download(model, revision, [CONFIG, *WEIGHTS, CARD]))


def read_settings(folder: str) -> Any:
    """Content of config.json."""
    try:
        return json.loads(_read(folder, CONFIG))
    except ValueError as error:
        raise ModelError(f"{files.join(folder, CONFIG)} is not JSON: {first_line(error)}; copy it again") from None


def read_weights(folder: str, name: str, load: Callable[[bytes], Tensors]) -> Tensors:
    """Tensors of a safetensors file, by the loader of a library."""
    try:
        return load(_read(folder, name))
    except SafetensorError as error:
        raise ModelError(f"{files.join(folder, name)} is damaged: {first_line(error)}; copy it again") from None


def read_card(folder: str) -> str | None:
    """The model card, if there is one."""
    path = files.join(folder, CARD)
    return files.read_bytes(path).decode(errors="replace") if files.exists(path) else None


def push(save: Callable[[str], None], repo_id: str, *, private: bool) -> str:
    """Send what `save` writes into a folder to a repository of the hub, made if it is not there; returns its URL."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            save(folder)
            url = str(huggingface_hub.create_repo(repo_id, private=private, exist_ok=True))
            huggingface_hub.upload_folder(
                repo_id=repo_id, folder_path=folder, commit_message="A landmark detector of uldscale"
            )
        return url
    except (
        hub.HfHubHTTPError,
        hub.HFValidationError,
        hub.LocalTokenNotFoundError,
        OSError,
        BROKEN_CONNECTION,
    ) as error:
        raise ModelError(
            f"cannot push to {repo_id!r}: {first_line(error)}; check the name, log in with `hf auth login`, and look whether the hub "
            "can be reached"
        ) from None


def _read(folder: str, name: str) -> bytes:
    path = files.join(folder, name)
    try:
        content = files.read_bytes(path)
    except FileNotFoundError:
        raise ModelError(f"{path} is not there; a model folder has {', '.join((CONFIG, *WEIGHTS))}") from None
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from None
    refuse_pointer(path, content)
    return content
