"""A small run to the end, and its plan, with each kind of backbone beside Stable Diffusion."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import Dinov2Config, Dinov2Model

from uldscale import files
from uldscale.data.faces3d import render
from uldscale.detector import LandmarkDetector
from uldscale.errors import ConfigError, StoreError
from uldscale.job import Job
from uldscale.pipeline import Pipeline
from uldscale.stages.plan import print_plan


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders with random weights by kind."""
    torch.manual_seed(0)
    clean, dino = (tmp_path_factory.mktemp(kind) for kind in ("cleandift", "dinov2"))
    UNet2DConditionModel(
        block_out_channels=(8, 16), down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), layers_per_block=1, norm_num_groups=4,
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=8, attention_head_dim=2,
    ).save_pretrained(clean / "unet")  # fmt: skip
    AutoencoderKL(
        block_out_channels=(8, 8, 8), down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=4,
    ).save_pretrained(clean / "vae")  # fmt: skip
    DDPMScheduler().save_pretrained(clean / "scheduler")
    save_file({"prompt_embeds": torch.zeros(1, 1, 8)}, clean / "prompt_embeds.safetensors")
    sizes = {"image_size": 24, "patch_size": 8, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    Dinov2Model(Dinov2Config(**sizes, initializer_range=0.3)).save_pretrained(dino)
    return {"cleandift": clean, "dinov2": dino}


@pytest.fixture(params=["cleandift", "dinov2"])
def job(request: pytest.FixtureRequest, models: dict[str, Path], settings: dict[str, Any]) -> Job:
    kind = request.param
    told = {"kind": kind} if kind == "cleandift" else {}
    settings["extract"]["features"] |= {
        "backbone": {"model": str(models[kind]), **told}, "mode": "clean", "timesteps": [261 if kind == "cleandift" else 0],
    }  # fmt: skip
    return Job.model_validate(settings)


def test_a_store_without_position_is_another_store(models: dict[str, Path], settings: dict[str, Any]) -> None:
    """One that lacks four channels, and is refused where the position is kept."""
    features = settings["extract"]["features"]
    features |= {"backbone": {"model": str(models["dinov2"])}, "mode": "clean", "timesteps": [0]}
    settings["extract"]["store"] |= {"root": str(Path(settings["output"]) / "store")}
    features["codec"] |= {"position": "remove", "channels": 16, "sample": 14}
    store = Pipeline(Job.model_validate(settings)).extract()
    assert store.spec.codec["position"] == "remove"
    assert [tap.channels for tap in store.spec.taps] == [16 - 4] * 2
    assert store.read_codec()["encoder.layer.1/basis"].shape == (16, 12)
    features["codec"]["position"] = "keep"
    settings["name"] = "other"
    with pytest.raises(StoreError, match=r"codec\.position: the store has 'remove', this run wants none"):
        Pipeline(Job.model_validate(settings)).extract()


def test_a_whole_run(job: Job, tmp_path: Path) -> None:
    pipeline = Pipeline(job)
    pipeline.run_all()
    measures = files.read_json(pipeline.run.result)["methods"]["d_uld_pp"]
    assert measures["nme"]["68pt-300"]["forward"] > 0
    image = render(0, size=64).image
    points = LandmarkDetector.from_pretrained(pipeline.run.model)(image).points
    assert points.shape == (1, 3, 2)
    assert np.isfinite(points).any()


def test_its_plan(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    print_plan(job.data, job.extract, job.train, job.runtime, "h100")
    said = capsys.readouterr().out
    assert f"in 2 views, 1 timesteps, {3 if job.extract.features.backbone.kind else 2} taps" in said
    assert "TFLOP" in said


@pytest.mark.parametrize("step", [Pipeline.run_all, Pipeline.extract])
def test_what_a_model_cannot_do_is_told_before_an_image_is_read(job: Job, step: Callable[[Pipeline], object]) -> None:
    features = job.extract.features.updated(mode="noise", timesteps=(50,))
    noisy = Pipeline(job.updated(extract=job.extract.updated(features=features)))
    with pytest.raises(ConfigError, match="knows no noise; set extract.features.mode=clean and "):
        step(noisy)
    odd = Pipeline(job.updated(data=job.data.updated(size=70)))
    with pytest.raises(ConfigError, match="data.size: 70, but .* wants a multiple of 8 pixels, such as 72"):
        step(odd)
    assert not Path(noisy.run.index).exists()
