"""Fixtures for all tests."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from uldscale.runtime.environment import stop_spinning

# Before torch is loaded: where tests and the processes that they start are more than the cores, spinning threads make them ten times
# as slow.
stop_spinning()

# Before Ray is loaded: a call without a Ray is an error, and starts none by itself, which would talk into the output of other tests.
os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"

WITH_RAY = (
    "tests/runtime/",
    *(f"tests/stages/test_{name}.py" for name in ("interruption", "relabel")),
)
"""Tests with a Ray that a clock hurries, by their places: one after the other, since its processes are more than enough for two cores."""

WITH_RAY_OF_THEIR_OWN = (
    "tests/stages/test_bucket.py",
    "tests/stages/test_pipeline.py",
    "tests/k8s/test_image.py",
    "tests/k8s/test_live.py",
)
"""Those that no clock hurries: a second Ray beside the first, at the end of the other row, which is shorter."""


class RayInOneRow(LoadScopeScheduling):
    """Tests side by side (`--numprocesses 2`): one process takes WITH_RAY, the others the rest file by file.

    By their places, since marks (`xdist_group`) never reach the scheduler: xdist 3.8 writes them into node ids, which pytest 9.2 ignores.
    """

    def _split_scope(self, nodeid: str) -> str:
        return "ray" if nodeid.startswith(WITH_RAY) else nodeid.split("::")[0]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: (not item.nodeid.startswith(WITH_RAY), item.nodeid.startswith(WITH_RAY_OF_THEIR_OWN)))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> RayInOneRow:
    config.option.loadscopereorder = False  # It would begin with the longest files.
    return RayInOneRow(config, log)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real data and models beside the repository, or ULDSCALE_SHARED; the test is skipped without it."""
    folder = Path(os.environ.get("ULDSCALE_SHARED", Path(__file__).parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is not there (set ULDSCALE_SHARED)")
    return folder


@pytest.fixture
def small() -> dict[str, Any]:
    """Settings of a small run of every stage on generated faces, to be changed at will; it has a diffusion model and no place yet."""
    stage = {"steps": 4, "learning_rate": 1e-3}
    labelled = {**stage, "relabel_every": 2}
    return {
        "name": "small",
        "data": {"kind": "faces3d", "train": 16, "test": 8, "size": 64, "roi": {"context": 0.1}},
        "extract": {
            "features": {"timesteps": [50], "codec": {"channels": 8, "sample": 4}},
            "views": {"count": 2},
            "store": {"rows_per_shard": 6},
        },
        "zero_shot": {"fit_images": 8, "fit_pixels": 20, "pixels": 30},
        "train": {
            "network": {
                "grid": 16,
                "aggregator": {"hidden": 8, "width": 12, "upsample_first": False},
                "heads": {"descriptor": 8},
                "vae": {"latent": 6, "width": 4},
            },
            "keypoints": {"minimum": 6},
            "clusters": {"landmarks": 3, "poses": 2},
            "batch": 4,
            "warmup_steps": 2,
            "checkpoint_every": 2,
            "log_every": 1,
            "bootstrap": stage,
            "d_uld": labelled,
            "d_uld_pose_proxy": stage,
            "d_uld_pp": labelled,
        },
        "runtime": {"ray": False, "train": {"threads": 1}},
    }


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder in diffusers layout: two levels, four taps, random weights."""
    import torch
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=16, block_out_channels=(16, 24), down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"), mid_block_type=None, layers_per_block=1, cross_attention_dim=8, norm_num_groups=8,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8), down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4, norm_num_groups=4, layers_per_block=1,
    )  # fmt: skip
    unet.save_pretrained(folder / "unet")
    vae.save_pretrained(folder / "vae")
    DDPMScheduler().save_pretrained(folder / "scheduler")
    save_file({"prompt_embeds": torch.zeros(1, 1, 8)}, folder / "prompt_embeds.safetensors")
    return str(folder)


@pytest.fixture(scope="session")
def content() -> Callable[[str], dict[str, bytes]]:
    """All files below a folder, but those that say who wrote a shard and when."""

    def read(folder: str) -> dict[str, bytes]:
        paths = [path for path in Path(folder).rglob("*") if path.is_file() and "attempts" not in path.parts]
        return {str(path.relative_to(folder)): path.read_bytes() for path in paths}

    return read


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model folder of random weights on the diffusion model that ships with the package: three landmarks, two poses, crops of 64 px."""
    import numpy as np
    import torch

    from uldscale.clustering.two_stage import Clusters
    from uldscale.data.faces3d import render
    from uldscale.detector import DetectorConfig, LandmarkDetector
    from uldscale.diffusion import codec
    from uldscale.diffusion.backbone import Backbone
    from uldscale.diffusion.extractor import Extractor, FeatureConfig
    from uldscale.models.network import Network, NetworkConfig
    from uldscale.models.visibility import Visibility

    torch.manual_seed(0)
    chosen = ["up_blocks.1.resnets.2", "up_blocks.2.resnets.2"]
    features = FeatureConfig.model_validate(
        {"timesteps": [50], "taps": chosen, "noise": "shared", "codec": {"channels": 8}}
    )
    backbone = Backbone.load(features.backbone)
    extractor = Extractor(backbone, features)
    crops = np.stack([render(seed, size=64).image for seed in range(2)])
    known = codec.fit_all(extractor.sample(crops, ["a", "b"], 32), 8)
    scales: dict[str, list[torch.Tensor]] = {}
    for tap in extractor.tap_specs(64):
        scales.setdefault(f"r{tap.side:02d}", []).append(torch.from_numpy(known[f"{tap.name}/scales"]))
    shape = NetworkConfig.model_validate(
        {
            "grid": 16,
            "aggregator": {"hidden": 8, "width": 12},
            "heads": {"descriptor": 8},
            "vae": {"latent": 6, "width": 4},
        }
    )
    network = Network({name: torch.stack(each) for name, each in scales.items()}, 1, shape)
    config = DetectorConfig.model_validate(
        {
            "features": features.model_dump(), "weight_hash": backbone.weight_hash, "image_size": 64, "network": shape.model_dump(),
            "keypoints": {"visible": 0.001}, "border": 0.1,
        }
    )  # fmt: skip
    maps = {name: torch.from_numpy(each) for name, each in extractor.encode(crops, ["a", "b"], known).items()}
    with torch.no_grad():
        outputs = network.eval()(maps)
    cells = outputs.descriptors[0, :, [4, 8, 11], [4, 11, 6]].T
    clusters = Clusters(cells.expand(2, -1, -1).numpy(), cells.numpy(), network.codes(outputs.logits).detach().numpy())
    folder = str(tmp_path_factory.mktemp("untrained") / "model")
    scores = np.array([[0.9, 0.8, 0.7], [0.6, 0.9, 0.8]], np.float32).repeat(10, 0)
    visibility = Visibility.fit(scores, np.arange(2).repeat(10), 2)
    LandmarkDetector(config, network, known, clusters, visibility).save_pretrained(folder)
    return folder


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """URIs of the images that this process renders."""
    from uldscale.data import images

    seen: list[str] = []
    render = images.render

    def note(uri: str) -> Any:
        seen.append(uri)
        return render(uri)

    monkeypatch.setattr(images, "render", note)
    return seen
