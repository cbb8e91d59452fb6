"""A job small enough for tests: generated faces, a diffusion model with random weights, every stage."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from safetensors.torch import save_file

from uldscale.job import Job
from uldscale.pipeline import Pipeline


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder in diffusers layout: two levels, four taps, random weights."""
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


@pytest.fixture
def settings(small: dict[str, Any], tiny_model: str, tmp_path: Path) -> dict[str, Any]:
    """The settings of a small job, to be changed at will."""
    small["extract"]["features"]["backbone"] = {"model": tiny_model}
    return {**small, "output": str(tmp_path / "runs")}


@pytest.fixture(scope="session")
def finished() -> dict[str, Pipeline]:
    return {}


@pytest.fixture
def whole(settings: dict[str, Any], finished: dict[str, Pipeline]) -> Pipeline:
    """One finished run, at which tests of several files look; long enough to be ended several times."""
    if "whole" not in finished:
        settings["data"]["train"] = 40
        settings["extract"]["store"] = {"rows_per_shard": 1}
        settings["train"]["bootstrap"] = {"steps": 40, "learning_rate": 1e-4}
        pipeline = Pipeline(Job.model_validate(settings))
        pipeline.run_all()
        finished["whole"] = pipeline
    return finished["whole"]
