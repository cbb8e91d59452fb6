"""Keypoints of a rank at rest: in the first round 34 kB an image, more than the memory of a rank that has many."""

from collections.abc import Iterator
from dataclasses import fields
from tempfile import TemporaryFile
from typing import Any

import numpy as np
from safetensors import numpy as safetensors

from uldscale.training.description import Keypoints


class Described:
    """Keypoints of one block of images after the other, in a temporary file that is gone with its process."""

    def __init__(self) -> None:
        self._file, self._ends = TemporaryFile(), [0]  # noqa: SIM115 - it is open for as long as this is there.

    def append(self, keypoints: Keypoints) -> None:
        """Add a block."""
        arrays = {field.name: getattr(keypoints, field.name) for field in fields(keypoints)}
        given = {name: np.ascontiguousarray(array) for name, array in arrays.items() if array is not None}
        self._file.seek(self._ends[-1])
        self._ends.append(self._ends[-1] + self._file.write(safetensors.save(given)))

    def __iter__(self) -> Iterator[Keypoints]:
        for start, end in zip(self._ends, self._ends[1:], strict=False):
            self._file.seek(start)
            arrays: dict[str, Any] = safetensors.load(self._file.read(end - start))
            yield Keypoints(**{"anchors": None, **arrays})
