"""What a feature store holds: everything that decides its bytes.

N rows (images), V views, T timesteps, L taps of one resolution, C stored channels, H = W side of a map.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field

from uldscale.config import Settings

VERSION = 3
"""Of the layout of a store and of what its features are made by; stores of another version are refused."""


class StoreConfig(Settings):
    """Where features are kept and how they are cut into shards."""

    root: str | None = None
    """Local folder or URL (s3://, gs://) of the store; None = inside the run folder.

    Credentials come from the environment, and so does a server of your own (MinIO, Ceph): AWS_ENDPOINT_URL, AWS_REGION.
    """
    shard_mib: int = Field(default=128, ge=1)
    """Largest size of a shard, the unit of work and of resume: all features of its images, in MiB."""
    rows_per_shard: int | None = Field(default=None, ge=1)
    """Images in a shard; None = as many as `shard_mib` allows."""


@dataclass(frozen=True)
class TapSpec:
    """One tapped decoder map as it is stored: (channels, side, side)."""

    name: str
    channels: int
    side: int

    def __str__(self) -> str:
        return f"{self.name} ({self.channels}, {self.side}, {self.side})"


@dataclass(frozen=True)
class StoreSpec:
    """Identity and layout of a store; two runs can share a store only when their specs are equal.

    Raises ValueError when taps of one resolution differ in channels.
    """

    model: str
    weight_hash: str
    prompt: str
    mode: str
    noise: str
    seed: int
    timesteps: tuple[int, ...]
    taps: tuple[TapSpec, ...]
    views: dict[str, Any]
    """Settings of the views, JSON values."""
    codec: dict[str, Any]
    """Settings of the codec, JSON values."""
    dtype: Literal["int8", "float16"]
    image_size: int
    index: str
    """Fingerprint of the image index."""
    num_rows: int
    num_views: int
    rows_per_shard: int | None = None
    shard_mib: int = 128
    batch: int = 8
    """Maps per call of the model: another number changes last bits."""
    precision: str = "float32"
    """Arithmetic of the model."""
    version: int = VERSION

    def __post_init__(self) -> None:
        for name, taps in self.resolutions.items():
            if len({tap.channels for tap in taps}) > 1:
                raise ValueError(f"{name}: taps of one resolution need equal channels, got {', '.join(map(str, taps))}")

    @property
    def resolutions(self) -> dict[str, tuple[TapSpec, ...]]:
        """Taps by the name of their array, such as "r08" for side 8; the order of taps is kept."""
        sides = sorted({tap.side for tap in self.taps})
        return {f"r{side:02d}": tuple(tap for tap in self.taps if tap.side == side) for side in sides}

    @property
    def row_bytes(self) -> int:
        """Bytes of the features of one image, all views and resolutions."""
        values = sum(tap.channels * tap.side**2 for tap in self.taps)
        return values * self.num_views * len(self.timesteps) * np.dtype(self.dtype).itemsize

    @property
    def shard_rows(self) -> int:
        """Images in a shard: as given, or as many as fit in `shard_mib`; never more than there are."""
        wanted = self.rows_per_shard or max(1, self.shard_mib * 2**20 // self.row_bytes)
        return min(wanted, self.num_rows)

    @property
    def num_shards(self) -> int:
        """Shards of the store; the last one may be padded."""
        return -(-self.num_rows // self.shard_rows)

    @property
    def stored_bytes(self) -> int:
        """Bytes of all arrays at rest: with the padding, the checksums and the index of each shard."""
        rows = self.num_shards * self.shard_rows
        chunks = rows * self.num_views * len(self.resolutions)
        # Per inner chunk a checksum of 4 bytes and an entry of 16 in the index, which has a checksum of its own.
        around = chunks * (4 + 16) + self.num_shards * len(self.resolutions) * 4
        return rows * self.row_bytes + around + self.num_rows * self.num_views * 9 * 4 + 4

    @property
    def num_objects(self) -> int:
        """Files or objects of a full store: per shard one for each array and two records; one for all views."""
        return self.num_shards * (len(self.resolutions) + 2) + 1

    def rows_of(self, shard: int) -> range:
        """Rows of a shard without its padding. Raises IndexError."""
        if not 0 <= shard < self.num_shards:
            raise IndexError(f"shard {shard} of a store with {self.num_shards}")
        return range(shard * self.shard_rows, min((shard + 1) * self.shard_rows, self.num_rows))

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape (N, V, T, L, C, H, W) of an array, N padded to whole shards."""
        taps = self.resolutions[name]
        rows = self.num_shards * self.shard_rows
        return (rows, self.num_views, len(self.timesteps), len(taps), taps[0].channels, taps[0].side, taps[0].side)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, which `from_json` reads back."""
        tree: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return tree

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> Self:
        """The spec in a tree of `to_json`. Raises TypeError or KeyError when it is of another kind."""
        taps = tuple(TapSpec(**tap) for tap in tree["taps"])
        return cls(**{**tree, "taps": taps, "timesteps": tuple(tree["timesteps"])})

    def differences(self, other: Self) -> list[str]:
        """One line for each entry in which this spec, of a store, is not what `other`, of a run, asks for."""
        ours, theirs = dict(self._entries()), dict(other._entries())
        return [
            f"{key}: the store has {ours.get(key, 'none')}, this run wants {theirs.get(key, 'none')}"
            for key in {**ours, **theirs}
            if ours.get(key) != theirs.get(key)
        ]

    def _entries(self) -> Iterator[tuple[str, str]]:
        """All that counts, as words; how the size of a shard was asked for does not count."""
        for key, value in self.to_json().items():
            if key == "taps":
                yield key, ", ".join(map(str, self.taps))
            elif key == "timesteps":
                yield key, str(self.timesteps)
            elif isinstance(value, dict):
                yield from ((f"{key}.{name}", repr(part)) for name, part in value.items())
            elif key not in ("rows_per_shard", "shard_mib"):
                yield key, repr(value)
        yield "rows_per_shard", str(self.shard_rows)
