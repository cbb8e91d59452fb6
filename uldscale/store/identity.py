"""Which store is at a place: the spec in its zarr.json, or what is wrong with it."""

from typing import Any

from uldscale.errors import StoreError
from uldscale.store import arrays, places
from uldscale.store.spec import VERSION, StoreSpec


def require_spec(root: str, place: Any, spec: StoreSpec) -> None:
    """Raises StoreError that names the differences when the store there is of another spec."""
    differences = read_spec(root, place).differences(spec)
    if differences:
        raise StoreError(
            f"{root} holds the features of another run: {'; '.join(differences)}; "
            "set extract.store.root to another folder, or remove this one"
        )


def read_spec(root: str, place: Any) -> StoreSpec:
    """The spec of the store there. Raises StoreError when there is none, or one of another version."""
    with places.speaking_of(root, "is not a feature store"):
        document = arrays.read_document(place, "zarr.json")
        if document is None:
            places.require_bucket(place)
    if document is None:
        raise StoreError(f"there is no feature store at {root}; run `uldscale extract` with the job first")
    try:
        tree = document["attributes"]["uldscale"]
        _require_version(root, tree.get("version", 1))
        return StoreSpec.from_json(tree)
    except (AttributeError, KeyError, TypeError) as error:
        raise StoreError(
            f"{root} holds a Zarr group that this version of uldscale did not write ({error}); use another folder"
        ) from error


def _require_version(root: str, version: int) -> None:
    if version != VERSION:
        raise StoreError(
            f"{root} is a feature store of version {version}, which this version of uldscale did not write; it reads version "
            f"{VERSION}: set extract.store.root to another folder, or remove this one, and run the job again"
        )
