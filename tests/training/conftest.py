"""A small feature store and training settings that go through all stages in seconds. What these tests share otherwise lies beside
them, where importlib mode does not look."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from uldscale.diffusion.extractor import FeatureConfig
from uldscale.models.views import ViewConfig, view_matrices
from uldscale.runs import RunFolder
from uldscale.stages.relabel import Relabeller
from uldscale.store.features import FeatureStore
from uldscale.store.spec import StoreSpec, TapSpec
from uldscale.training.loop import Training
from uldscale.training.schedule import TrainConfig

sys.path.append(str(Path(__file__).parent))

ROWS = 12

CONFIG = TrainConfig.model_validate(
    {
        "network": {
            "grid": 16,
            "aggregator": {"hidden": 8, "width": 12, "upsample_first": False},
            "heads": {"descriptor": 8},
            "vae": {"latent": 6, "width": 4},
        },
        "keypoints": {"minimum": 6, "maximum": 12},
        "clusters": {"landmarks": 3, "poses": 2, "segments": 8},
        "batch": 4,
        "warmup_steps": 2,
        "checkpoint_every": 2,
        "log_every": 1,
        "bootstrap": {"steps": 3, "learning_rate": 1e-3},
        "d_uld": {"steps": 4, "learning_rate": 1e-3, "relabel_every": 2},
        "d_uld_pose_proxy": {"steps": 3, "learning_rate": 1e-3},
        "d_uld_pp": {"steps": 4, "learning_rate": 1e-3, "relabel_every": 2},
        "full_vae": {"steps": 4, "learning_rate": 1e-3, "relabel_every": 2},
        "control": {"steps": 4, "learning_rate": 1e-3, "relabel_every": 2},
        "mallis_d": {"steps": 4, "learning_rate": 1e-3, "relabel_every": 2},
    }
)


def make_store(root: str) -> FeatureStore:
    """A complete store of random features: 12 images in 2 views, one timestep, a tap at 8 and one at 16 cells."""
    taps = (TapSpec("up_blocks.0.resnets.0", 4, 8), TapSpec("up_blocks.1.resnets.0", 4, 16))
    views = ViewConfig(count=2, rotation=20)
    spec = StoreSpec(
        model="none", weight_hash="0", prompt="", mode="clean", noise="shared", seed=0, timesteps=(0,), taps=taps,
        views=views.model_dump(mode="json"), codec={}, dtype="int8", image_size=64, index="0", num_rows=ROWS, num_views=2,
        rows_per_shard=4,
    )  # fmt: skip
    store = FeatureStore.open_or_create(root, spec)
    random = np.random.default_rng(0)
    store.write_codec({f"{tap.name}/scales": np.full(tap.channels, 0.1, np.float32) for tap in taps})
    for shard in store.missing_shards():
        rows = store.rows_of(shard)
        maps = {
            name: random.integers(-100, 100, (len(rows), *spec.shape(name)[1:]), np.int8) for name in spec.resolutions
        }
        matrices = np.stack([view_matrices(views, str(row), 0) for row in rows])
        store.write_shard(shard, maps, matrices, attempt="0", seconds=0.0)
    return store


@pytest.fixture
def config() -> TrainConfig:
    return CONFIG


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return make_store(str(tmp_path_factory.mktemp("features") / "store.zarr"))


@pytest.fixture(scope="session")
def training_in(store: FeatureStore) -> Callable[..., Training]:
    """Builds a training in a run folder, relabelled in this process."""

    def make(folder: Path, config: TrainConfig = CONFIG, **told: Any) -> Training:
        run = RunFolder(str(folder))
        folder.mkdir(exist_ok=True)
        yaw = np.linspace(-80, 80, ROWS)
        relabeller = Relabeller(config.clusters, run, seed=config.seed)
        rows = np.arange(ROWS - 2)
        return Training(
            config, FeatureConfig(), run, store, rows, yaw, relabeller, border=0.1, device=torch.device("cpu"), **told
        )

    return make
