"""What a stage is for: its method as a detector of its own, in the run folder."""

import numpy as np

from uldscale import files
from uldscale.detector import DetectorConfig, LandmarkDetector
from uldscale.diffusion.extractor import FeatureConfig
from uldscale.labels import Labels
from uldscale.models.network import Network
from uldscale.models.visibility import Visibility
from uldscale.runs import RunFolder
from uldscale.store.features import FeatureStore
from uldscale.training.labelling import Labelling
from uldscale.training.schedule import Stage, TrainConfig

SAMPLE = 10_000
"""So many images, evenly spread over all, say what scores are usual."""


def keep(
    stage: Stage,
    network: Network,
    labels: Labels,
    run: RunFolder,
    *,
    config: TrainConfig,
    features: FeatureConfig,
    store: FeatureStore,
    border: float,
) -> None:
    """Write the detector of a stage, from its network and its last round of labels; what another one has found there goes."""
    settings = DetectorConfig(
        features=features.updated(backbone=features.backbone.anchored()),
        weight_hash=store.spec.weight_hash,
        image_size=store.spec.image_size,
        network=config.network,
        keypoints=config.keypoints,
        border=border,
    )
    labelling = Labelling.from_arrays(labels.labelling)
    detector = LandmarkDetector(settings, network, store.read_codec(), labelling.clusters, _usual(labels, labelling))
    files.remove(run.method(stage.value))
    detector.save_pretrained(run.method(stage.value))


def _usual(labels: Labels, labelling: Labelling) -> Visibility:
    """What scores landmarks have; nothing is known where labels are other things than landmarks."""
    poses, landmarks, _ = labelling.clusters.centroids.shape
    rows = np.flatnonzero(labels.poses >= 0)
    rows = rows[:: max(1, len(rows) // SAMPLE)] if labelling.segments is None else rows[:0]
    scores = labels.scores(rows) if len(rows) else np.zeros((0, landmarks), np.float32)
    return Visibility.fit(scores, labels.poses[rows], poses)


def is_kept(stage: Stage, run: RunFolder) -> bool:
    """Whether the detector of a stage is there, of one that has one."""
    return stage is Stage.BOOTSTRAP or files.exists(files.join(run.method(stage.value), "config.json"))
