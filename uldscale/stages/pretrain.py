"""The verb `pretrain`: a small latent diffusion model of the user's own images, as a folder in diffusers layout.

Law: n steps, a kill and the same command again give the model that an undisturbed run gives. Until the end all work is
in `<output>.partial`; `output` appears whole.
"""

import os
import time
from collections.abc import Callable
from typing import Any

import safetensors.torch
import torch
import typer
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor

from uldscale import files
from uldscale.diffusion import pretraining
from uldscale.diffusion.optimisation import Optimisation, Shares, generator
from uldscale.errors import ConfigError
from uldscale.runtime.progress import Progress
from uldscale.runtime.roles import RuntimeConfig
from uldscale.stages.index import build_index
from uldscale.stages.model_card import model_card
from uldscale.stages.pretrain_config import PretrainConfig
from uldscale.stages.pretrain_images import kept, read_images, views_of

_LINE_SECONDS = 10.0
_SETTINGS = "pretraining.json"
Draw = Callable[[torch.Generator], tuple[Tensor, ...]]


def pretrain(config: PretrainConfig, job: str) -> str:
    """Train, or go on training, and write the model; gives its folder. `job` is the job file that the README names.

    Raises ConfigError when the output or its partial folder was made with other settings, DataError without images.
    """
    output = os.path.expanduser(config.output).rstrip("/")
    _require_same(config.identity(), output)
    if files.exists(f"{output}/{_SETTINGS}"):
        files.remove(f"{output}.partial")
        typer.echo(f"{output} is there already, made with these settings")
        return output
    _require_same(config.resumable(), f"{output}.partial")
    files.write_json(f"{output}.partial/{_SETTINGS}", config.resumable())
    index = build_index(config.data, f"{output}.partial/index.parquet", RuntimeConfig(ray=False))
    images = read_images(index, config.data.size, f"{output}.partial/images.safetensors")
    training = _Training(config, images, f"{output}.partial")
    vae, latents = training.autoencoder()
    unet = training.denoiser(latents)
    _write_model(vae, unet, f"{output}.partial/model")
    files.write_json(f"{output}.partial/model/{_SETTINGS}", config.identity())
    card = model_card(config, job, len(images), index.fingerprint(), vae, unet)
    files.write_bytes(f"{output}.partial/model/README.md", card.encode())
    os.replace(f"{output}.partial/model", output)
    files.remove(f"{output}.partial")
    return output


class _Training:
    """Both trainings of one run, each with a checkpoint file in `folder`; images uint8 (n, S, S, 3)."""

    def __init__(self, config: PretrainConfig, images: Tensor, folder: str) -> None:
        self.config, self.folder, self.images = config, folder, images
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def autoencoder(self) -> tuple[AutoencoderKL, Tensor]:
        """The autoencoder and its scaled latents (n, 4, S, S) of all views of all images, then of those of their mirror images."""
        start = self.config.start
        vae = self._train_autoencoder() if start is None else pretraining.read_vae(start).to(self.device)
        means = kept(f"{self.folder}/latents.safetensors", lambda: self._encode(vae))
        if start is None:
            vae.register_to_config(scaling_factor=pretraining.unit_scale(means))
        return vae, means * vae.config.scaling_factor

    def _train_autoencoder(self) -> AutoencoderKL:
        config = self.config.vae
        torch.manual_seed(self.config.seed)
        vae = pretraining.make_vae(config, self.config.data.size).to(self.device)

        def draw(random: torch.Generator) -> tuple[Tensor, ...]:
            chosen = torch.randint(len(self.images), (config.optimisation.batch,), generator=random)
            batch = pretraining.pixels(self.images[chosen])
            if self.config.mirror:
                flip = torch.rand(len(batch), generator=random) < 0.5
                batch = torch.where(flip.view(-1, 1, 1, 1), batch.flip(-1), batch)
            return batch, torch.randn(pretraining.latent_shape(config, batch), generator=random)

        def loss(batch: Tensor, noise: Tensor) -> Tensor:
            return pretraining.vae_loss(vae, batch, noise, config)

        self._run("vae", Optimisation(vae, config.optimisation), draw, loss)
        return vae

    def denoiser(self, latents: Tensor) -> UNet2DConditionModel:
        """The UNet, trained on scaled latents (n, 4, S, S)."""
        config = self.config.unet
        torch.manual_seed(self.config.seed)
        if self.config.start is None:
            unet = pretraining.make_unet(config, latents.shape[-1]).to(self.device)
        else:
            unet = pretraining.read_unet(self.config.start).to(self.device)
        alphas_cumprod = pretraining.make_scheduler().alphas_cumprod.to(self.device)

        def draw(random: torch.Generator) -> tuple[Tensor, ...]:
            chosen = latents[torch.randint(len(latents), (config.optimisation.batch,), generator=random)]
            noise = torch.randn(chosen.shape, generator=random)
            return chosen, noise, pretraining.stratified_timesteps(len(chosen), random)

        def loss(batch: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
            return pretraining.denoising_loss(unet, batch, noise, timesteps, alphas_cumprod)

        self._run("unet", Optimisation(unet, config.optimisation), draw, loss)
        return unet

    def _run(self, name: str, optimisation: Optimisation, draw: Draw, loss: Callable[..., Tensor]) -> None:
        """All steps that the checkpoint lacks."""
        checkpoint, total = f"{self.folder}/{name}.safetensors", optimisation.config.steps
        if files.exists(checkpoint):
            optimisation.restore(safetensors.torch.load(files.read_bytes(checkpoint)))
        lines = _Lines(name, optimisation.step, total, optimisation.config.batch)
        with Shares(self.config.shares, self.device, self.config.precision == "bf16") as shares:
            while optimisation.step < total:
                batch = draw(generator(self.config.seed, name, optimisation.step))
                value, gradients = shares.gradients(optimisation.parameters, loss, batch)
                optimisation.update(gradients)
                lines.step(optimisation.step, value)
                if optimisation.step % self.config.checkpoint_steps == 0 or optimisation.step == total:
                    files.write_bytes(checkpoint, safetensors.torch.save(optimisation.state()))
        optimisation.finish()

    @torch.no_grad()
    def _encode(self, vae: AutoencoderKL) -> Tensor:
        """Posterior means (n, 4, S, S) of all views, float32 on the CPU."""
        means, config = [], self.config
        with Progress("latents", len(self.images) * (1 + config.mirror)) as progress:
            for count, views in views_of(self.images, config.views, mirror=config.mirror, seed=config.seed):
                means.append(vae.encode(pretraining.pixels(views).to(self.device)).latent_dist.mean.cpu())
                progress.advance(count)
        return torch.cat(means).contiguous()


class _Lines:
    """One line of loss and speed every ten seconds."""

    def __init__(self, name: str, step: int, total: int, batch: int) -> None:
        self.name, self.first, self.total, self.batch = name, step, total, batch
        self.losses, self.last = list[float](), time.monotonic()

    def step(self, step: int, loss: float) -> None:
        """Take note of a step, and print when it is time or the end."""
        self.losses.append(loss)
        seconds = time.monotonic() - self.last
        if seconds < _LINE_SECONDS and step < self.total:
            return
        rate, mean = len(self.losses) / seconds, sum(self.losses) / len(self.losses)
        speed = f"{rate * self.batch:.1f} images/s, {(self.total - step) / rate / 60:.0f} min left"
        typer.echo(f"{self.name} step {step}/{self.total}: loss {mean:.4f}, {speed}")
        self.losses, self.last = [], time.monotonic()


def _require_same(wanted: dict[str, Any], folder: str) -> None:
    path = f"{folder}/{_SETTINGS}"
    if not files.exists(path):
        if files.names(folder):
            raise ConfigError(f"{folder} is there, but not from `uldscale pretrain`; give another output")
        return
    made = files.read_json(path)
    if made != wanted:
        keys = ", ".join(key for key in wanted if made.get(key) != wanted[key])
        raise ConfigError(f"{folder} was made with other settings ({keys}); give another output or remove it")


def _write_model(vae: AutoencoderKL, unet: UNet2DConditionModel, folder: str) -> None:
    files.remove(folder)
    vae.half().save_pretrained(f"{folder}/vae")
    unet.half().save_pretrained(f"{folder}/unet")
    pretraining.make_scheduler().save_pretrained(f"{folder}/scheduler")
    prompt = {"prompt_embeds": torch.zeros(1, pretraining.PROMPT_WIDTH)}
    files.write_bytes(f"{folder}/prompt_embeds.safetensors", safetensors.torch.save(prompt))
