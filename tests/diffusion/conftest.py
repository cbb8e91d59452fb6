"""Models with random weights, as small as their libraries allow, in the layout of real ones."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import (
    BitImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Dinov2Config,
    Dinov2Model,
)

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
VAE = {
    "block_out_channels": (8, 16),
    "norm_num_groups": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
}
SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
WORDS = ["!", "<|startoftext|>", "<|endoftext|>", "f", "a", "c", "e</w>", "e", "fa", "ce</w>"]


@pytest.fixture(scope="session")
def ldm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model folder: 16 px images, 4 x 8 x 8 latents, two levels with two decoder blocks each; read only."""
    folder = tmp_path_factory.mktemp("ldm")
    torch.manual_seed(0)
    UNet2DConditionModel(**UNET).half().save_pretrained(folder / "unet")
    AutoencoderKL(**VAE, scaling_factor=0.5).half().save_pretrained(folder / "vae")
    DDPMScheduler(**SCHEDULE).save_pretrained(folder / "scheduler")
    save_file({"prompt_embeds": torch.randn(3, 6)}, folder / "prompt_embeds.safetensors")
    return folder


@pytest.fixture(scope="session")
def dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model folder: patches of 4 px, three layers, trained at 12 px; with the normalisation of the public ones; read only."""
    folder = tmp_path_factory.mktemp("dino")
    torch.manual_seed(0)
    sizes = {"image_size": 12, "patch_size": 4, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
    Dinov2Model(Dinov2Config(**sizes, initializer_range=0.3)).save_pretrained(folder)
    mean, spread = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    BitImageProcessor(image_mean=mean, image_std=spread).save_pretrained(folder)
    return folder


@pytest.fixture
def copy(ldm: Path, tmp_path: Path) -> Path:
    """A copy of `ldm` to change."""
    return Path(shutil.copytree(ldm, tmp_path / "copy"))


@pytest.fixture
def texts(copy: Path) -> Path:
    """A copy of `ldm` with a text encoder in place of the stored embedding."""
    (copy / "prompt_embeds.safetensors").unlink()
    torch.manual_seed(0)
    _tokenizer(copy / "tokenizer").save_pretrained(copy / "tokenizer")
    CLIPTextModel(_text(6)).save_pretrained(copy / "text_encoder")
    return copy


@pytest.fixture
def sdxl(tmp_path: Path) -> Path:
    """A model of the SDXL kind as its pipeline saves it: prompt embedding (7, 6 + 8), pooled 10."""
    torch.manual_seed(0)
    sizes = {"addition_time_embed_dim": 4, "projection_class_embeddings_input_dim": 10 + 6 * 4}
    pipeline = StableDiffusionXLPipeline(
        vae=AutoencoderKL(**VAE, scaling_factor=0.13025),
        text_encoder=CLIPTextModel(_text(6)),
        text_encoder_2=CLIPTextModelWithProjection(_text(8)),
        tokenizer=_tokenizer(tmp_path / "words"),
        tokenizer_2=_tokenizer(tmp_path / "words", pad_token="!"),
        unet=UNet2DConditionModel(**{**UNET, **sizes, "cross_attention_dim": 14}, addition_embed_type="text_time"),
        scheduler=DDPMScheduler(**SCHEDULE),
    )
    pipeline.save_pretrained(tmp_path / "sdxl")
    return tmp_path / "sdxl"


def _tokenizer(folder: Path, **settings: str) -> CLIPTokenizer:
    folder.mkdir(exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(WORDS)}))
    (folder / "merges.txt").write_text("#version: 0.2\nf a\nc e</w>\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=7, **settings)


def _text(width: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(WORDS),
        hidden_size=width,
        projection_dim=10,
        intermediate_size=8,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=7,
        bos_token_id=1,
        eos_token_id=2,
    )
