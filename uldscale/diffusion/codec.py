"""The codec of one tap: PCA to C channels, then int8 or float16 with a scale per channel.

Raw float16 features of SD 1.5 are 14.3 MB an image and timestep; with C = 64 they are 1.04 MB. The codec is fitted
once on sampled pixels of a sample of images, all timesteps together, and stored beside the features.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from uldscale.config import Settings
from uldscale.diffusion import positions

LEVELS = 127
"""Codes lie in [-127, 127]: symmetric, so that a sign flip of a channel is a sign flip of its codes."""

QUANTILE = 0.999
"""Coefficients beyond this quantile of their absolute value are clipped: a few outliers must not coarsen all others."""

Dtype = Literal["int8", "float16"]
"""Of the codes."""

Arrays = Mapping[str, NDArray[np.float32]]
"""Codecs of all taps under flat names: "<tap>/mean" (Cin,), "<tap>/basis" (Cin, C), "<tap>/scales" (C,), and where it was
measured the quality: "<tap>/explained" (), "<tap>/error" ()."""


class CodecConfig(Settings):
    """How features are made small."""

    kind: Literal["pca-int8", "pca-fp16", "none"] = "pca-int8"
    """pca-int8: PCA per tap and int8; pca-fp16: the same coefficients as float16; none: all channels as float16."""
    channels: int = Field(64, ge=1)
    """Channels kept per tap by a PCA; a tap with fewer keeps what it has."""
    sample: int = Field(256, ge=1)
    """Images that a PCA is fitted on."""
    position: Literal["keep", "remove"] = "keep"
    """remove: without the directions of the features that say where a cell is, whatever it shows. For DINOv2, whose clusters may follow
    places; found on the images of `sample`, turned at random."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kind == "none" and self.position == "remove":
            raise ValueError("kind none keeps all channels as they are, so position must be keep, got remove")
        return self

    @property
    def dtype(self) -> Dtype:
        """Of what is stored."""
        return "int8" if self.kind == "pca-int8" else "float16"

    @property
    def identity(self) -> dict[str, Any]:
        """What a store knows of it, as plain values; those from before `position` kept it."""
        return self.model_dump(mode="json", exclude={"position"} if self.position == "keep" else None)

    def kept(self, channels: int) -> int:
        """Stored channels of a tap with so many."""
        if self.kind == "none":
            return channels
        return min(self.channels, channels - (positions.COUNT if self.position == "remove" else 0))


@dataclass(frozen=True)
class TapCodec:
    """mean: (Cin,); basis: (Cin, C), orthonormal columns, strongest first; scales: (C,), coefficient = code * scale."""

    mean: Tensor
    basis: Tensor
    scales: Tensor

    def coefficients(self, features: Tensor) -> Tensor:
        """(..., Cin, H, W) -> (..., C, H, W) before quantisation."""
        # The mean is taken off after the projection, where it is small: 1280 channels are read once instead of three times.
        return torch.einsum("...ihw,ic->...chw", features, self.basis) - (self.mean @ self.basis)[:, None, None]

    def encode(self, features: Tensor, dtype: Dtype = "int8") -> Tensor:
        """(..., Cin, H, W) of any floating kind -> (..., C, H, W): whole levels, clipped, in int8; or levels as they are in float16."""
        levels = self.coefficients(features.float()) / self.scales[:, None, None]
        if dtype == "int8":
            levels = levels.round().clamp(-LEVELS, LEVELS)
        return levels.to(getattr(torch, dtype))

    def decode(self, codes: Tensor) -> Tensor:
        """(..., C, H, W) int8 or float16 -> (..., Cin, H, W) float32."""
        coefficients = codes * self.scales[:, None, None]
        return torch.einsum("...chw,ic->...ihw", coefficients, self.basis) + self.mean[:, None, None]


class Quality(NamedTuple):
    """What a codec keeps of features it was not fitted on, as fractions of their variance in [0, 1].

    explained: kept by the projection alone; error: lost by the whole round trip. Their sum exceeds 1 by what int8 or
    float16 costs.
    """

    explained: float
    error: float


def fit_all(
    samples: Mapping[str, NDArray[np.floating]],
    channels: int,
    without: Mapping[str, NDArray[np.float64]] | None = None,
) -> dict[str, NDArray[np.float32]]:
    """Flat arrays of the codecs of all taps, each fitted on pixels (n, Cin); equal samples give equal codecs.

    without: directions by tap, as in `fit`.
    """
    return pack({tap: fit(pixels, channels, (without or {}).get(tap)) for tap, pixels in samples.items()})


def fit(samples: NDArray[np.floating], channels: int, without: NDArray[np.float64] | None = None) -> TapCodec:
    """Codec of one tap from sampled pixels (n, Cin); keeps min(channels, Cin) channels. n >= 2.

    Its basis is orthogonal to `without`, the columns of positions.directions, and then has Cin - positions.COUNT channels at most.
    """
    mean = samples.mean(axis=0, dtype=np.float64)
    centred = samples - mean
    inside = centred
    if without is not None:
        inside, channels = centred - centred @ without @ without.T, min(channels, len(mean) - positions.COUNT)
    basis = _principal_axes(inside, channels)
    scales = _scales(centred @ basis)
    return TapCodec(*(torch.from_numpy(part.astype(np.float32)) for part in (mean, basis, scales)))


def quality_all(
    codecs: Arrays, samples: Mapping[str, NDArray[np.floating]], dtype: Dtype = "int8"
) -> dict[str, Quality]:
    """Quality of the codecs of all taps, with codes of a dtype, on pixels (n, Cin) that they were not fitted on."""
    return {tap: quality(unpack(codecs, tap), pixels, dtype) for tap, pixels in samples.items()}


def quality(codec: TapCodec, samples: NDArray[np.floating], dtype: Dtype = "int8") -> Quality:
    """Quality of a codec on held-out pixels (n, Cin), n >= 2."""
    pixels = torch.from_numpy(samples.astype(np.float32))[:, :, None, None]
    total = (pixels - codec.mean[:, None, None]).square().sum()
    kept = codec.coefficients(pixels).square().sum()
    lost = (pixels - codec.decode(codec.encode(pixels, dtype))).square().sum()
    if total == 0:
        return Quality(explained=1.0, error=0.0)  # nothing to lose
    return Quality(explained=float(kept / total), error=float(lost / total))


def pack(codecs: Mapping[str, TapCodec]) -> dict[str, NDArray[np.float32]]:
    """Flat arrays of the codecs by tap, ready to be stored."""
    parts = {tap: vars(codec) for tap, codec in codecs.items()}
    return {f"{tap}/{name}": value.cpu().numpy() for tap, part in parts.items() for name, value in part.items()}


def pack_quality(quality: Mapping[str, Quality]) -> dict[str, NDArray[np.float32]]:
    """Flat arrays of the quality by tap, to be stored beside the codecs."""
    parts = {tap: kept._asdict() for tap, kept in quality.items()}
    # Rounded, since sums in float32 differ in their last digits with the number of threads, and stores must not.
    return {
        f"{tap}/{name}": np.array(round(value, 5), np.float32)
        for tap, part in parts.items()
        for name, value in part.items()
    }


def unpack(arrays: Arrays, tap: str, device: str | torch.device = "cpu") -> TapCodec:
    """Codec of one tap from flat arrays. Raises KeyError when the arrays hold no such tap."""
    return TapCodec(*(torch.tensor(arrays[f"{tap}/{name}"], device=device) for name in ("mean", "basis", "scales")))


def _principal_axes(centred: NDArray[np.float64], channels: int) -> NDArray[np.float64]:
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :channels]
    # An eigenvector is defined up to its sign: fix it, so that the same samples give the same codes with any LAPACK.
    strongest = np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None], axis=0)
    return axes * np.where(strongest < 0, -1.0, 1.0)


def _scales(coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
    reach = np.quantile(np.abs(coefficients), QUANTILE, axis=0)
    # A channel without variance (a dead one, or more channels than samples) gets a finite scale: its codes are about 0.
    floor = max(1e-4 * float(reach.max()), float(np.finfo(np.float32).tiny) * LEVELS)
    scales: NDArray[np.float64] = np.maximum(reach, floor) / LEVELS
    return scales
