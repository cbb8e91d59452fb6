"""The public face of a trained model: load, call on images, save.

    detector = LandmarkDetector.load("runs/faces68/model")
    landmarks = detector(["a.jpg", "b.png"])        # or one image; paths, Pillow images, arrays, tensors
    landmarks.points            # (2, K, 2) pixels of each image, NaN where a landmark is missing

A model folder holds config.json, network.safetensors, codec.safetensors and clusters.safetensors. The diffusion model is named by
its folder or hub id and checked by the hash of its weights.

B images, K landmarks, Q poses, G grid side.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import PIL.Image
import safetensors.numpy
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from uldscale import files
from uldscale.clustering.two_stage import Clusters, assign_poses
from uldscale.config import Settings, validate
from uldscale.data.images import BrokenImage, crop, decode, from_pillow
from uldscale.diffusion.backbone import Backbone
from uldscale.diffusion.extractor import Extractor, FeatureConfig
from uldscale.errors import DataError, ModelError
from uldscale.models.keypoints import KeypointConfig, inside_border
from uldscale.models.landmarks import find
from uldscale.models.network import Network, NetworkConfig

Image = str | os.PathLike[str] | PIL.Image.Image | NDArray[np.uint8] | Tensor
"""A path or URI, a Pillow image, or uint8 grey, RGB or RGBA: an array (H, W) or (H, W, C), a tensor (C, H, W)."""
Box = tuple[float, float, float, float]
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Landmarks:
    """Landmarks of some images."""

    points: NDArray[np.float32]
    """(B, K, 2) x, y; NaN where missing."""
    scores: NDArray[np.float32]
    """(B, K) detector confidence in [0, 1]; 0 where missing."""
    poses: NDArray[np.int64]
    """(B,) pose cluster of each image; 0 for a model without poses."""
    descriptors: NDArray[np.float32]
    """(B, K, D) of unit norm; NaN where missing."""


class DetectorConfig(Settings):
    """What a model folder says of itself."""

    features: FeatureConfig
    weight_hash: str
    image_size: int
    network: NetworkConfig
    keypoints: KeypointConfig
    border: float
    """Share of the crop on each side in which no landmark is sought."""


class LandmarkDetector:
    """Finds the K discovered landmarks on images, or on stored features of images."""

    def __init__(self, config: DetectorConfig, network: Network, codec: Arrays, clusters: Clusters) -> None:
        self.config = config
        self.network = network.eval()
        self.clusters = clusters
        self._codec = codec
        self._backbone: Backbone | None = None

    @classmethod
    def load(cls, folder: str, device: str = "cpu", backbone: str | None = None) -> "LandmarkDetector":
        """The detector in a model folder. `backbone` says where its diffusion model is now, if not where it was in training.

        Raises ModelError when the folder is not one.
        """
        if not files.exists(files.join(folder, "config.json")):
            raise ModelError(
                f"{folder!r} is not a model folder (no config.json); give the model/ folder of a finished run"
            )
        config = validate(
            DetectorConfig, files.read_json(files.join(folder, "config.json")), files.join(folder, "config.json")
        )
        if backbone is not None:
            features = config.features
            moved = features.updated(backbone=features.backbone.updated(model=backbone))
            config = config.updated(features=moved)
        weights = safetensors.torch.load(files.read_bytes(files.join(folder, "network.safetensors")))
        codec = safetensors.numpy.load(files.read_bytes(files.join(folder, "codec.safetensors")))
        clusters = safetensors.numpy.load(files.read_bytes(files.join(folder, "clusters.safetensors")))
        network = Network.from_weights(weights, config.network).to(device)
        return cls(config, network, codec, Clusters.from_arrays(clusters))

    def save(self, folder: str) -> None:
        """Write the model folder; config.json comes last, so that a folder with it is whole."""
        weights = {name: value.detach().cpu().contiguous() for name, value in self.network.state_dict().items()}
        files.write_bytes(files.join(folder, "network.safetensors"), safetensors.torch.save(weights))
        files.write_bytes(files.join(folder, "codec.safetensors"), safetensors.numpy.save(self._codec))
        files.write_bytes(files.join(folder, "clusters.safetensors"), safetensors.numpy.save(self.clusters.arrays()))
        files.write_json(files.join(folder, "config.json"), self.config.model_dump(mode="json"))

    def __call__(self, images: Image | Sequence[Image], boxes: Sequence[Box] | None = None) -> Landmarks:
        """Landmarks in pixels of each image, or of one.

        `boxes` are the parts (x0, y0, x1, y1) to cut out of each, with as much around the object as in training, by default the whole
        image. Raises DataError without images, or for one that cannot be read.
        """
        pictures = [_pixels(image) for image in _listed(images)]
        if not pictures:
            raise DataError("no image is given; give at least one")
        if boxes is None:
            boxes = [(0, 0, picture.shape[1], picture.shape[0]) for picture in pictures]
        areas, size = np.asarray(boxes, np.float32), self.config.image_size
        crops = np.stack([crop(picture, tuple(area), size) for picture, area in zip(pictures, areas, strict=True)])
        found = self.locate(self._features(crops))
        points = areas[:, None, :2] + found.points * (areas[:, None, 2:] - areas[:, None, :2])
        return replace(found, points=points)

    def _features(self, crops: NDArray[np.uint8]) -> dict[str, Tensor]:
        if self._backbone is None:
            self._backbone = self._load_backbone()
        features = self.config.features
        # A few images need not wait for the batch of a store, nor for its compiled model.
        batch = min(features.batch, len(crops) * len(features.timesteps))
        extractor = Extractor(self._backbone, features.updated(batch=batch, compile=False))
        # The same noise for all: landmarks depend neither on the place in a list nor jump between frames that look alike.
        names = ["image"] * len(crops)
        return {name: torch.from_numpy(maps) for name, maps in extractor.encode(crops, names, self._codec).items()}

    def _load_backbone(self) -> Backbone:
        backbone = Backbone.load(self.config.features.backbone, next(self.network.parameters()).device)
        if backbone.weight_hash != self.config.weight_hash:
            raise ModelError(
                f"diffusion model {backbone.name!r} has weights {backbone.weight_hash[:12]}, but this detector was trained on "
                f"{self.config.weight_hash[:12]}; give the one that it was trained on (predict: --backbone)"
            )
        return backbone

    @torch.no_grad()
    def locate(self, features: Mapping[str, Tensor]) -> Landmarks:
        """Landmarks in unit coordinates from encoded features (B, T, L, C, H, W) by resolution."""
        device = next(self.network.parameters()).device
        outputs = self.network({name: maps.to(device) for name, maps in features.items()})
        poses = assign_poses(self.network.codes(outputs.logits).cpu().numpy(), self.clusters).astype(np.int64)
        heat, centroids = outputs.logits.sigmoid(), torch.from_numpy(self.clusters.centroids[poses]).to(device)
        inside = inside_border(heat, self.config.border)
        found = find(heat, outputs.descriptors, centroids, inside, self.config.keypoints)
        points, scores, descriptors = (values.cpu().numpy() for values in found)
        descriptors[np.isnan(points).any(-1)] = np.nan
        return Landmarks(points, scores, poses, descriptors)


def _listed(images: Image | Sequence[Image]) -> Sequence[Image]:
    """One image as a list of one."""
    if isinstance(images, str | os.PathLike | PIL.Image.Image):
        return [images]
    # A stack of images has a dimension more than one of them.
    return [images] if isinstance(images, np.ndarray | Tensor) and images.ndim < 4 else list(images)


def _pixels(image: Image) -> NDArray[np.uint8]:
    """(H, W, 3) RGB."""
    try:
        if isinstance(image, str | os.PathLike):
            return decode(os.fspath(image))
        if isinstance(image, PIL.Image.Image):
            return from_pillow(image)
        return from_pillow(PIL.Image.fromarray(_upright(image)))
    except BrokenImage as problem:
        raise DataError(f"{image if isinstance(image, str | os.PathLike) else 'an image'}: {problem.reason}") from None


def _upright(image: NDArray[np.uint8] | Tensor) -> NDArray[np.uint8]:
    """(H, W) or (H, W, C)"""
    array = image.permute(1, 2, 0).cpu().numpy() if isinstance(image, Tensor) and image.ndim == 3 else np.asarray(image)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise DataError(
            f"an image is {array.dtype} {tuple(image.shape)}; wanted uint8 grey, RGB or RGBA: arrays (H, W) or (H, W, C), tensors (C, H, W)"
        )
    return array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
