"""The images whose keypoints are fitted: chosen by a hash of their rows, so that any number of ranks chooses the same."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from uldscale.runtime.ranks import gather
from uldscale.training.description import Keypoints

BINS = 1 << 16
"""Of hashes, which come in or stay out together; with fewer, one would have more keypoints than a sample of the largest data."""


def sample(blocks: Iterable[Keypoints], limit: int, *, seed: int, device: torch.device) -> Keypoints:
    """The images of this rank that belong to the sample, with descriptors in float16; every rank calls this, with a block or more.

    Images come in by their hash as long as the keypoints of all ranks are at most `limit`.
    """
    counts = np.zeros(BINS, np.int64)
    for block in blocks:
        counts += np.bincount(_bins(block.row, seed), minlength=BINS)
    whole = gather(torch.from_numpy(counts).to(device)[None]).sum(0).cumsum(0)
    bins = int((whole <= limit).sum())
    chosen = [block.on(_bins(block.rows, seed) < bins) for block in blocks]
    return Keypoints.joined([replace(each, descriptors=each.descriptors.astype(np.float16)) for each in chosen])


def _bins(rows: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Bin (N',) of the hash of each row: the finaliser of SplitMix64 (Steele et al. 2014)."""
    mixed = rows.astype(np.uint64) + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(48)).astype(np.int64)
