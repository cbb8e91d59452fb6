"""A latent diffusion model with random weights, as small as diffusers allows, in the layout of a real one."""

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from safetensors.torch import save_file

UNET = {
    "sample_size": 8,
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "cross_attention_dim": 6,
    "attention_head_dim": 8,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
}


@pytest.fixture(scope="session")
def ldm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model folder: 16 px images, 4 x 8 x 8 latents, two levels with two decoder blocks each; read only."""
    folder = tmp_path_factory.mktemp("ldm")
    torch.manual_seed(0)
    UNet2DConditionModel(**UNET).half().save_pretrained(folder / "unet")
    vae = AutoencoderKL(
        block_out_channels=(8, 16),
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        scaling_factor=0.5,
    )
    vae.half().save_pretrained(folder / "vae")
    DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").save_pretrained(
        folder / "scheduler"
    )
    save_file({"prompt_embeds": torch.randn(3, 6)}, folder / "prompt_embeds.safetensors")
    return folder
