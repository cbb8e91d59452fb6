"""What a stage is for: its method as a detector of its own, in the run folder."""

from uldscale import files
from uldscale.detector import DetectorConfig, LandmarkDetector
from uldscale.diffusion.extractor import FeatureConfig
from uldscale.labels import Labels
from uldscale.models.network import Network
from uldscale.runs import RunFolder
from uldscale.store.features import FeatureStore
from uldscale.training.labelling import Labelling
from uldscale.training.schedule import Stage, TrainConfig


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
    """Write the detector of a stage, from its network and its last round of labels."""
    settings = DetectorConfig(
        features=features.updated(backbone=features.backbone.anchored()),
        weight_hash=store.spec.weight_hash,
        image_size=store.spec.image_size,
        network=config.network,
        keypoints=config.keypoints,
        border=border,
    )
    clusters = Labelling.from_arrays(labels.labelling).clusters
    LandmarkDetector(settings, network, store.read_codec(), clusters).save_pretrained(run.method(stage.value))


def is_kept(stage: Stage, run: RunFolder) -> bool:
    """Whether the detector of a stage is there, of one that has one."""
    return stage is Stage.BOOTSTRAP or files.exists(files.join(run.method(stage.value), "config.json"))
