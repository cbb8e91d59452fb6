"""What a method says of a few images beyond their landmarks: landmarks of a moved view, and descriptors.

One safetensors file beside the predictions. n images, K landmarks, D descriptor size.
"""

from dataclasses import dataclass, fields

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from uldscale import files
from uldscale.data.index import ImageIndex

LARGEST = 2000
"""Most images of a probe, so that it costs the same for any number of images."""


@dataclass(frozen=True, eq=False)
class Probe:
    """A method on a sample of images, in the order of `rows`."""

    rows: NDArray[np.int64]
    """(n,) rows of the index."""
    moved: NDArray[np.float32]
    """(n, K, 2) landmarks of the moved view, in its unit coordinates; NaN where missing."""
    matrices: NDArray[np.float32]
    """(n, 3, 3) unit coordinates of the image to those of the moved view."""
    descriptors: NDArray[np.float16]
    """(n, K, D) of the landmarks of the image itself; NaN where missing."""

    def write(self, path: str) -> None:
        """Replace the file whole."""
        arrays = {field.name: np.ascontiguousarray(getattr(self, field.name)) for field in fields(self)}
        files.write_bytes(path, safetensors.numpy.save(arrays))

    @classmethod
    def read(cls, path: str) -> "Probe":
        """The probe in a file."""
        return cls(**safetensors.numpy.load(files.read_bytes(path)))


def sample(index: ImageIndex) -> NDArray[np.int64]:
    """Rows of the images that methods are probed on: of the test images, or of all without any; the same for every method."""
    pool = index.judged()
    chosen = np.random.default_rng(0).permutation(len(pool))[:LARGEST]
    rows: NDArray[np.int64] = np.sort(pool[chosen])
    return rows
