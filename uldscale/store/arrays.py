"""Zarr v3 arrays and small JSON documents below one root, on a local disk or in a bucket, through TensorStore.

Laws: a document or a chunk is replaced whole or not at all. What is missing or damaged raises; nothing is filled in.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from glob import escape, glob
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts
from numpy.typing import NDArray

from uldscale.store import places

_DRAFT = "_*.__lock"
"""What follows the name of a file in the name of its draft."""

_CHECKED = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]


def open_array(place: Any, metadata: dict[str, Any] | None = None, context: Any = None, **mode: bool) -> Any:
    """Array at a place, with `metadata`; `mode` is TensorStore's open, create, delete_existing. Raises ValueError."""
    spec: dict[str, Any] = {
        "driver": "zarr3",
        "recheck_cached_metadata": False,
        "recheck_cached_data": False,
        "store_data_equal_to_fill_value": True,
        "fill_missing_data_reads": False,
        **({"metadata": metadata} if metadata else {}),
        **mode,
    }
    return ts.open(spec, kvstore=place, context=context).result()


def put_array(place: Any, array: NDArray[Any]) -> None:
    """Write a small array in one chunk, in place of what was there. Raises ValueError."""
    metadata = chunked(array.shape, str(array.dtype), array.shape)
    open_array(place, metadata, create=True, delete_existing=True).write(array).result()


def chunked(shape: Sequence[int], dtype: str, chunk: Sequence[int]) -> dict[str, Any]:
    """Metadata of an array in plain chunks, each with a checksum."""
    return {
        "shape": list(shape),
        "data_type": dtype,
        "fill_value": 0,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk)}},
        # One folder an array: with slashes every shard has six of its own.
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "codecs": _CHECKED,
    }


def sharded(shape: Sequence[int], dtype: str, shard_rows: int) -> dict[str, Any]:
    """Metadata of a feature array (N, V, T, L, C, H, W): inner chunk = a view of an image."""
    inner = {"chunk_shape": [1, 1, *shape[2:]], "codecs": _CHECKED, "index_codecs": _CHECKED}
    return {
        **chunked(shape, dtype, [shard_rows, *shape[1:]]),
        "codecs": [{"name": "sharding_indexed", "configuration": inner}],
        "dimension_names": ["row", "view", "timestep", "tap", "channel", "y", "x"],
    }


def group(attributes: dict[str, Any]) -> dict[str, Any]:
    """Document of a Zarr group."""
    return {"zarr_format": 3, "node_type": "group", "attributes": attributes}


def read_document(place: Any, key: str) -> Any:
    """Parsed JSON document, None when it is not there. Raises ValueError when it is damaged."""
    return parsed(place.read(key))


def parsed(reading: Any) -> Any:
    """JSON document that is on its way, None when it is not there. Raises ValueError when it is damaged."""
    found = reading.result()
    return json.loads(found.value) if found.state == "value" else None


def write_document(place: Any, key: str, value: Any) -> None:
    """Replace a JSON document whole; equal values give equal bytes. Raises ValueError."""
    place.write(key, _encode(value)).result()


def add_document(place: Any, key: str, value: Any) -> bool:
    """Write a JSON document unless there is one, of whatever content; says whether it did. Raises ValueError."""
    found = place.read(key).result()
    return found.state != "value" and bool(
        place.write(key, _encode(value), if_equal=found.stamp.generation).result().generation
    )


def remove_document(place: Any, key: str) -> None:
    """Remove a document; nothing happens when it is not there. Raises ValueError."""
    place.write(key, None).result()


def names(place: Any) -> list[str]:
    """Keys of everything below a place; drafts are not listed. Raises ValueError."""
    return sorted(key.decode() for key in place.list().result())


def usage(place: Any) -> dict[str, int | None]:
    """Number of objects below a place and their bytes, None in a bucket, whose listing gives none. Raises ValueError."""
    keys, folder = names(place), places.local_folder(place)
    stored = None if folder is None else sum(os.path.getsize(folder + key) for key in keys)
    return {"objects": len(keys), "stored_bytes": stored}


def sweep(place: Any, *patterns: str) -> None:
    """Remove the drafts that killed writers left of local files; `patterns` name the files, ** = any folders."""
    folder = places.local_folder(place)
    if folder is not None:
        for draft in (
            draft for pattern in patterns for draft in glob(escape(folder) + pattern + _DRAFT, recursive=True)
        ):
            Path(draft).unlink(missing_ok=True)


def checksum(content: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 over names, kinds, shapes and values; the order does not matter."""
    digest = hashlib.sha256()
    for name, array in sorted(content.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _encode(value: Any) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()
