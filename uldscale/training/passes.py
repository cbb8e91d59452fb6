"""One pass of the network over stored images as they are (view 0)."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from uldscale.models.network import Network, Outputs
from uldscale.store.reader import FeatureReader

PASS_BATCH = 32


def outputs_of(
    network: Network, reader: FeatureReader, rows: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], Outputs]]:
    """(some of the rows, what the network says of them), until all rows have had their turn; read ahead."""
    device = next(network.parameters()).device
    for some, maps in reader.in_parts(rows, PASS_BATCH):
        yield some, network({name: torch.from_numpy(values).to(device) for name, values in maps.items()})
