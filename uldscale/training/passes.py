"""One pass of the network over stored images as they are (view 0)."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from uldscale.models.network import Network, Outputs
from uldscale.store.reader import FeatureReader

PASS_BATCH = 32

Rows = NDArray[np.int64]


def parts_of(blocks: Iterable[Rows]) -> list[Rows]:
    """Blocks of rows in parts that the network sees at once; what it says of a row may hang on the others in its last bits."""
    return [block[start : start + PASS_BATCH] for block in blocks for start in range(0, len(block), PASS_BATCH)]


def outputs_of(network: Network, reader: FeatureReader, parts: Sequence[Rows]) -> Iterator[tuple[Rows, Outputs]]:
    """(a part of the rows, what the network says of them), until all have had their turn; read ahead."""
    device = next(network.parameters()).device
    requests = ((part, np.zeros_like(part)) for part in parts)
    for part, maps in zip(parts, reader.prefetch(requests), strict=True):
        yield part, network({name: torch.from_numpy(values).to(device) for name, values in maps.items()})
