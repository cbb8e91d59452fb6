"""The verb `export`: the heads of a detector as a file for torch.export or ONNX runtimes.

Inside: everything from encoded features on. Inputs are those features by resolution ("r08", "r16", …), (B, T, L, C, H, W) int8 codes, or
float16 for a codec that keeps values, B free; aggregator, detector, descriptors, pose code, the nearest pose, and where the landmarks are.
Outputs are those of `LandmarkDetector.locate`: points (B, K, 2) in unit coordinates of the crop, NaN where missing, scores and
visibility (B, K), poses (B,) and descriptors (B, K, D).

Outside: reading and cropping images, the diffusion model with its noise, and the codec, that is all that `Extractor.encode` does. Who
has two poses at the same distance up to rounding may get the other one here.
"""

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from uldscale import files
from uldscale.detector import LandmarkDetector
from uldscale.errors import ModelError
from uldscale.models.keypoints import inside_border
from uldscale.models.landmarks import find
from uldscale.models.network import Network

OUTPUTS = ("points", "scores", "visibility", "poses", "descriptors")


def export(model: str, output: str, format: Literal["torch", "onnx"]) -> None:
    """Write the heads of a detector to a file. Raises ModelError when there is no detector, or for ONNX no exporter."""
    detector = LandmarkDetector.from_pretrained(model)
    content = _onnx(detector) if format == "onnx" else _torch(detector)
    files.write_bytes(output, content)


class Heads(nn.Module):
    """`LandmarkDetector.locate` in tensors alone; features come in the order of the names of their resolutions."""

    centroids: Tensor
    pose_centroids: Tensor | None

    def __init__(self, detector: LandmarkDetector) -> None:
        super().__init__()
        poses = detector.clusters.pose_centroids
        self.network: Network = detector.network
        self.visibility = detector.visibility
        self.border, self.keypoints = detector.config.border, detector.config.keypoints
        self.register_buffer("centroids", torch.from_numpy(detector.clusters.centroids))
        self.register_buffer("pose_centroids", None if poses is None else torch.from_numpy(poses))

    def forward(self, *features: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Points, scores, visibility, poses and descriptors."""
        outputs = self.network(dict(zip(self.network.aggregator.taps, features, strict=True)))
        heat = outputs.logits.sigmoid()
        poses = self._poses(self.network.codes(outputs.logits))
        inside = inside_border(heat, self.border)
        found = find(heat, outputs.descriptors, self.centroids[poses], inside, self.keypoints)
        missing = found.points.isnan().any(-1, keepdim=True)
        visible = self.visibility(found.scores, poses)
        return found.points, found.scores, visible, poses, found.descriptors.masked_fill(missing, torch.nan)

    def _poses(self, codes: Tensor) -> Tensor:
        if self.pose_centroids is None:
            return torch.zeros_like(codes[:, 0], dtype=torch.int64)
        return (codes[:, None] - self.pose_centroids).square().sum(-1).argmin(1)


def example(detector: LandmarkDetector, images: int = 2) -> tuple[Tensor, ...]:
    """Features of the right shapes, for tracing: zeros."""
    features = detector.config.features
    kind = torch.int8 if features.codec.kind == "pca-int8" else torch.float16
    given = []
    for name in detector.network.aggregator.taps:
        taps, channels = detector.network.get_buffer(f"aggregator.resolutions.{name}.steps").shape
        side = int(name.removeprefix("r"))
        given.append(torch.zeros(images, len(features.timesteps), taps, channels, side, side, dtype=kind))
    return tuple(given)


def _program(detector: LandmarkDetector) -> torch.export.ExportedProgram:
    given = example(detector)
    free = tuple({0: torch.export.Dim("images", min=1, max=1 << 16)} for _ in given)
    with torch.no_grad():
        return torch.export.export(Heads(detector).eval(), given, dynamic_shapes=(free,))


def _torch(detector: LandmarkDetector) -> bytes:
    content = io.BytesIO()
    torch.export.save(_program(detector), content)
    return content.getvalue()


def _onnx(detector: LandmarkDetector) -> bytes:
    try:
        import onnxscript  # noqa: F401
    except ImportError:
        raise ModelError(
            "ONNX needs onnx and onnxscript, which are not installed: pip install 'uldscale[export]'"
        ) from None
    names: Sequence[str] = list(detector.network.aggregator.taps)
    with _quiet():
        program = torch.onnx.export(
            _program(detector), input_names=names, output_names=OUTPUTS, dynamo=True, verbose=False
        )
    assert program is not None
    content: bytes = program.model_proto.SerializeToString()
    return content


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says of packages and constants that concern nobody here; its errors are exceptions."""
    try:
        logging.disable(logging.WARNING)
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(logging.NOTSET)
