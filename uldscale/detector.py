"""The public face of a trained model: load, call on images, save, share.

    detector = LandmarkDetector.from_pretrained("runs/faces68/model")    # a folder, or owner/name of the Hugging Face hub
    landmarks = detector(["a.jpg", "https://example.org/b.png"])         # or one image; also Pillow images, arrays, tensors
    landmarks.points            # (2, K, 2) pixels of each image, NaN where a landmark is missing

The diffusion model is not in the model folder (`model_folder`): config.json names it by its folder or hub id, and it is checked by the
hash of its weights.

B images, K landmarks, Q poses, D numbers in a descriptor, G grid side.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import safetensors.numpy
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from uldscale import files, inputs, model_folder
from uldscale.clustering.two_stage import Clusters, assign_poses
from uldscale.config import Settings, validate
from uldscale.data.images import Pixels, crop
from uldscale.detector_card import PLACE, detector_card
from uldscale.diffusion.backbone import Backbone, BackboneConfig
from uldscale.diffusion.extractor import Extractor, FeatureConfig
from uldscale.diffusion.folder import display_name
from uldscale.errors import DataError, ModelError
from uldscale.inputs import Image
from uldscale.landmarks import Landmarks, joined
from uldscale.models.keypoints import KeypointConfig, inside_border
from uldscale.models.landmarks import find
from uldscale.models.network import Network, NetworkConfig
from uldscale.models.visibility import Visibility

Box = tuple[float, float, float, float]
Arrays = dict[str, NDArray[Any]]
Dtype = Literal["float32", "bfloat16"]


class DetectorConfig(Settings):
    """What a model folder says of itself."""

    features: FeatureConfig
    weight_hash: str
    image_size: int
    network: NetworkConfig
    keypoints: KeypointConfig
    border: float
    """Share of the crop on each side in which no landmark is sought."""
    names: tuple[str, ...] | None = None
    """Of the K landmarks, for whoever has looked at them; by default "0" to "K-1"."""


class LandmarkDetector:
    """Finds the K discovered landmarks on images, or on stored features of images."""

    def __init__(
        self,
        config: DetectorConfig,
        network: Network,
        codec: Arrays,
        clusters: Clusters,
        visibility: Visibility,
        card: str | None = None,
    ) -> None:
        """`card` is the Markdown of its model card, if it has one. Raises ModelError when the parts are not of one model."""
        self.config = config
        self.network = network.eval()
        self.clusters = clusters
        self.visibility = visibility
        self.card = card
        self.names = config.names or tuple(map(str, range(clusters.centroids.shape[1])))
        self._codec = codec
        self._backbone: Backbone | None = None
        self._require_one_model()

    @classmethod
    def from_pretrained(
        cls,
        model: str | os.PathLike[str],
        *,
        revision: str | None = None,
        device: str = "cpu",
        dtype: Dtype | None = None,
        backbone: str | None = None,
    ) -> "LandmarkDetector":
        """The detector in a model folder, on a disk or in a bucket, or of a model of the hub, at a `revision` of it.

        `dtype` is the arithmetic of the diffusion model, by default that of training. `backbone` says where the diffusion model is now,
        if not where it was in training. Raises ModelError when there is no detector, or a damaged one, ConfigError for wrong settings.
        """
        folder = model_folder.find(os.fspath(model), revision)
        place = files.join(folder, model_folder.CONFIG)
        config = _moved(validate(DetectorConfig, model_folder.read_settings(folder), place), backbone, dtype)
        weights = model_folder.read_weights(folder, "network.safetensors", safetensors.torch.load)
        codec = model_folder.read_weights(folder, "codec.safetensors", safetensors.numpy.load)
        clusters = model_folder.read_weights(folder, "clusters.safetensors", safetensors.numpy.load)
        usual = model_folder.read_weights(folder, "visibility.safetensors", safetensors.torch.load)
        try:
            network, known = Network.from_weights(weights, config.network), Clusters.from_arrays(clusters)
            visibility = Visibility(**usual)
        except (KeyError, RuntimeError, TypeError) as error:
            said = " ".join(str(error).split())
            raise ModelError(
                f"{folder}: weights and {model_folder.CONFIG} are not of one model ({said:.200})"
            ) from None
        return cls(config, network.to(device), codec, known, visibility.to(device), model_folder.read_card(folder))

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the model folder; config.json comes last, so that a folder with it is whole."""
        content = {
            "network.safetensors": _packed(self.network),
            "codec.safetensors": safetensors.numpy.save(self._codec),
            "clusters.safetensors": safetensors.numpy.save(self.clusters.arrays()),
            "visibility.safetensors": _packed(self.visibility),
        }
        for name, data in content.items():
            files.write_bytes(files.join(os.fspath(folder), name), data)
        if self.card is not None:
            files.write_bytes(files.join(os.fspath(folder), model_folder.CARD), self.card.encode())
        files.write_json(files.join(os.fspath(folder), model_folder.CONFIG), self.config.model_dump(mode="json"))

    def push_to_hub(self, repo_id: str, *, private: bool = False) -> str:
        """Send the model folder, with a model card, to owner/name of the hub, which is made if it is not there; returns its URL.

        A diffusion model in a folder of this machine is named without the way to it: others give `from_pretrained` their `backbone`.
        Raises ModelError.
        """
        config = _moved(self.config, display_name(self.config.features.backbone.model), None)
        card = self.card or detector_card(config.model_dump(mode="json"), config.names, repo_id)
        shared = LandmarkDetector(
            config, self.network, self._codec, self.clusters, self.visibility, card.replace(PLACE, repo_id)
        )
        return model_folder.push(shared.save_pretrained, repo_id, private=private)

    def __call__(
        self, images: Image | Sequence[Image], boxes: Sequence[Box] | None = None, *, batch_size: int | None = None
    ) -> Landmarks:
        """Landmarks in pixels of each image, or of one; of an image file upright by EXIF.

        `boxes` are the parts (x0, y0, x1, y1) to cut out of each, with as much around the object as in training, by default the whole
        image. `batch_size` images at a time go through the diffusion model, by default as many as in training; it is halved where the
        memory of the device is too small. Raises DataError without images, or for one that cannot be read.
        """
        given = inputs.listed(images)
        if not given:
            raise DataError("no image is given; give at least one")
        areas, size = None if boxes is None else _areas(boxes, len(given)), batch_size or self.config.features.batch
        extractor = self._extractor(min(size, len(given)))
        return joined(
            [
                self._find(extractor, pictures, _whole(pictures) if areas is None else areas[part])
                for part, pictures in inputs.in_parts(given, size)
            ]
        )

    def _find(self, extractor: Extractor, pictures: Sequence[Pixels], areas: NDArray[np.float32]) -> Landmarks:
        size = self.config.image_size
        crops = np.stack([crop(picture, tuple(area), size) for picture, area in zip(pictures, areas, strict=True)])
        # The same noise for all: landmarks depend neither on the place in a list nor jump between frames that look alike.
        maps = extractor.encode(crops, ["image"] * len(crops), self._codec)
        found = self.locate({name: torch.from_numpy(values) for name, values in maps.items()})
        return replace(found, points=areas[:, None, :2] + found.points * (areas[:, None, 2:] - areas[:, None, :2]))

    def _extractor(self, batch: int) -> Extractor:
        if self._backbone is None:
            self._backbone = self._load_backbone()
        # A few images need not wait for a compiled model.
        return Extractor(self._backbone, self.config.features.updated(batch=batch, compile=False))

    def _load_backbone(self) -> Backbone:
        advice = "give the one that it was trained on (from_pretrained: backbone=, predict: --backbone)"
        try:
            backbone = Backbone.load(self.config.features.backbone, next(self.network.parameters()).device)
        except ModelError as error:
            raise ModelError(f"{error}; {advice}") from error
        if backbone.weight_hash != self.config.weight_hash:
            raise ModelError(
                f"diffusion model {backbone.name!r} has weights {backbone.weight_hash[:12]}, but this detector was trained on "
                f"{self.config.weight_hash[:12]}; {advice}"
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
        visible = self.visibility(found.scores, torch.from_numpy(poses).to(device))
        points, scores, descriptors, visibility = (values.cpu().numpy() for values in (*found, visible))
        descriptors[np.isnan(points).any(-1)] = np.nan
        return Landmarks(points, scores, visibility, poses, descriptors, self.names)

    def _require_one_model(self) -> None:
        _, count, size = self.clusters.centroids.shape
        if len(self.names) != count or len(set(self.names)) < count:
            raise ModelError(
                f"config.json names {len(set(self.names))} landmarks, but the model has {count}; give each a name of its own"
            )
        if self.visibility.by_pose.shape != self.clusters.centroids.shape[:2]:
            raise ModelError(
                "visibility and centroids are of other landmarks or poses; take all files of one model folder"
            )
        if size != self.config.network.heads.descriptor:
            raise ModelError(
                f"centroids have {size} numbers, descriptors {self.config.network.heads.descriptor}; take all files of one model folder"
            )


def _moved(config: DetectorConfig, backbone: str | None, dtype: Dtype | None) -> DetectorConfig:
    """The same with the diffusion model in another place, or with another arithmetic."""
    changes = {name: value for name, value in (("model", backbone), ("dtype", dtype)) if value is not None}
    backbone_config = validate(BackboneConfig, config.features.backbone.model_dump() | changes, "the diffusion model")
    return config.updated(features=config.features.updated(backbone=backbone_config))


def _packed(module: nn.Module) -> bytes:
    """Its weights as a safetensors file."""
    return safetensors.torch.save(
        {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    )


def _areas(boxes: Sequence[Box], count: int) -> NDArray[np.float32]:
    """(B, 4)"""
    areas = np.asarray(boxes, np.float32)
    if areas.shape != (count, 4) or not (areas[:, :2] < areas[:, 2:]).all():
        raise DataError(
            f"boxes are {areas.shape}, wanted one (x0, y0, x1, y1) with x0 < x1 and y0 < y1 for each of {count} images"
        )
    return areas


def _whole(pictures: Sequence[Pixels]) -> NDArray[np.float32]:
    """(B, 4)"""
    return np.array([(0, 0, picture.shape[1], picture.shape[0]) for picture in pictures], np.float32)
