"""A bundle: named arrays in a Zarr group that are valid together or not at all.

Names such as "<tap>/mean" put an array in a group of its own. The zarr.json of the bundle holds all names and a
checksum and is written last.
"""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from uldscale.store import arrays


def record_of(bundle: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """What tells a bundle from another one."""
    return {"arrays": sorted(bundle), "checksum": arrays.checksum(bundle)}


def known(place: Any) -> dict[str, Any] | None:
    """Record of the bundle at a place, None when there is no whole one. Raises ValueError."""
    document = arrays.read_document(place, "zarr.json")
    record: dict[str, Any] | None = document and document["attributes"]
    return record


def write(place: Any, bundle: Mapping[str, NDArray[Any]]) -> None:
    """Write a bundle where there is no whole one. Raises ValueError."""
    arrays.sweep(place, "**/*")
    for name, array in bundle.items():
        folder = name.rpartition("/")[0]
        if folder:
            arrays.write_document(place, f"{folder}/zarr.json", arrays.group({}))
        arrays.put_array(place / f"{name}/", array)
    arrays.write_document(place, "zarr.json", arrays.group(record_of(bundle)))


def read(place: Any) -> dict[str, NDArray[Any]]:
    """The arrays of a bundle; empty when there is no whole one. Raises ValueError when they are damaged."""
    record = known(place)
    if record is None:
        return {}
    bundle = {name: arrays.open_array(place / f"{name}/", open=True).read().result() for name in record["arrays"]}
    if record_of(bundle) != record:
        raise ValueError("the arrays are whole, but not those that were written")
    return bundle
