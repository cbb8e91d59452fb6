"""Laws of pretraining: a kill changes nothing, shares change nothing, latents have unit scale, diffusers loads it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from PIL import Image

from uldscale import config as settings
from uldscale import files
from uldscale.diffusion import pretraining
from uldscale.diffusion.optimisation import Optimisation, OptimisationConfig, Shares, generator
from uldscale.diffusion.pretraining import UnetConfig, VaeConfig
from uldscale.errors import ConfigError, ModelError
from uldscale.stages.pretrain import pretrain
from uldscale.stages.pretrain_config import PretrainConfig

JOB = str(Path(__file__).parents[2] / "jobs" / "tiny-ldm.yaml")
TINY_VAE = VaeConfig(channels=(8, 8), norm_groups=4, optimisation=OptimisationConfig(steps=6, batch=4, warmup=2))
TINY_UNET = UnetConfig(
    channels=(8, 16),
    layers_per_block=1,
    heads=2,
    norm_groups=4,
    optimisation=OptimisationConfig(steps=6, batch=4, warmup=2, average=0.9),
)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight smooth images of 32 px, one of them broken."""
    folder = tmp_path_factory.mktemp("photos")
    ramp = np.linspace(0, 255, 32)
    for number in range(7):
        planes = [
            np.add.outer(ramp, ramp[::-1]) / 2,
            np.roll(np.tile(ramp, (32, 1)), 4 * number, 1),
            np.tile(ramp, (32, 1)),
        ]
        Image.fromarray(np.stack(planes, -1).astype(np.uint8)).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def job(photos: Path, output: Path, **changes: Any) -> PretrainConfig:
    data = {"kind": "folder", "train": str(photos), "size": 32}
    tree = {"output": str(output), "data": data, "vae": TINY_VAE, "unet": TINY_UNET, "precision": "fp32"}
    return PretrainConfig.model_validate({**tree, "checkpoint_steps": 4, **changes})


@pytest.fixture(scope="module")
def model(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an undisturbed run."""
    return Path(pretrain(job(photos, tmp_path_factory.mktemp("whole") / "model"), "jobs/mine.yaml"))


def weights(model: Path) -> dict[str, torch.Tensor]:
    parts = {part: model / part / "diffusion_pytorch_model.safetensors" for part in ("vae", "unet")}
    return {
        f"{part}/{name}": value
        for part, path in parts.items()
        for name, value in safetensors.torch.load(path.read_bytes()).items()
    }


def test_the_folder_is_a_diffusers_model_in_float16(model: Path) -> None:
    vae = AutoencoderKL.from_pretrained(model / "vae")
    unet = UNet2DConditionModel.from_pretrained(model / "unet")
    scheduler = DDPMScheduler.from_pretrained(model / "scheduler")
    prompt = safetensors.torch.load((model / "prompt_embeds.safetensors").read_bytes())["prompt_embeds"]
    latents = vae.encode(torch.zeros(1, 3, 32, 32)).latent_dist.mean * vae.config.scaling_factor
    assert unet(latents, 100, prompt[None]).sample.shape == latents.shape == (1, 4, 16, 16)
    assert (scheduler.config.beta_start, scheduler.config.beta_end) == (0.00085, 0.012)
    assert (scheduler.config.beta_schedule, scheduler.config.prediction_type) == ("scaled_linear", "epsilon")
    assert prompt.shape == (1, 32)
    assert not prompt.any()
    assert {value.dtype for value in weights(model).values()} == {torch.float16}


def test_the_readme_says_what_it_was_trained_on_and_how(model: Path) -> None:
    text = (model / "README.md").read_text()
    assert "7 images and their mirror images at 32 px" in text
    assert "uldscale pretrain jobs/mine.yaml" in text


def test_nothing_is_left_beside_the_model(model: Path) -> None:
    assert [path.name for path in model.parent.iterdir()] == ["model"]


@pytest.mark.parametrize(("part", "killed_at"), [("vae_loss", 5), ("denoising_loss", 5), ("vae_loss", 2)])
def test_a_killed_run_goes_on_to_the_same_weights(
    photos: Path, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, part: str, killed_at: int
) -> None:
    whole, calls = getattr(pretraining, part), []

    def killed(*arguments: Any) -> torch.Tensor:
        calls.append(1)
        if len(calls) == killed_at + 1:
            raise KeyboardInterrupt
        result: torch.Tensor = whole(*arguments)
        return result

    again = job(photos, tmp_path / "model")
    with monkeypatch.context() as patch:
        patch.setattr(pretraining, part, killed)
        with pytest.raises(KeyboardInterrupt):
            pretrain(again, JOB)
    assert not (tmp_path / "model").exists()
    folder = Path(pretrain(again, JOB))
    for name, value in weights(model).items():
        torch.testing.assert_close(weights(folder)[name], value, msg=name)


def test_a_resumed_run_starts_at_its_checkpoint(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(pretraining, "make_unet", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pretrain(job(photos, tmp_path / "model"), JOB)
    assert "vae step 6/6" in capsys.readouterr().out
    pretrain(job(photos, tmp_path / "model"), JOB)
    assert "vae step" not in capsys.readouterr().out


def test_other_settings_are_refused_and_more_unet_steps_are_not(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(pretraining, "unit_scale", lambda latents: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pretrain(job(photos, tmp_path / "model"), JOB)
    with pytest.raises(ConfigError, match=r"partial was made with other settings \(seed\)"):
        pretrain(job(photos, tmp_path / "model", seed=1), JOB)
    longer = TINY_UNET.updated(optimisation=TINY_UNET.optimisation.updated(steps=7))
    pretrain(job(photos, tmp_path / "model", unet=longer), JOB)
    with pytest.raises(ConfigError, match=r"model was made with other settings \(unet\)"):
        pretrain(job(photos, tmp_path / "model"), JOB)


def test_a_folder_of_somebody_else_is_left_alone(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "thesis.tex").write_text("years")
    with pytest.raises(ConfigError, match="give another output"):
        pretrain(job(photos, tmp_path / "model"), JOB)
    assert (tmp_path / "model" / "thesis.tex").read_text() == "years"


def test_scaled_latents_have_unit_deviation() -> None:
    latents = torch.randn(50, 4, 8, 8, generator=torch.Generator().manual_seed(0)) * 3.7 + 0.4
    assert float((latents * pretraining.unit_scale(latents)).std()) == pytest.approx(1, abs=1e-4)


def test_the_stored_scaling_factor_fits_the_images(model: Path, photos: Path) -> None:
    vae = AutoencoderKL.from_pretrained(model / "vae")
    images = np.stack([np.asarray(Image.open(photos / f"{number}.png")) for number in range(7)])
    batch = pretraining.pixels(torch.from_numpy(images))
    means = vae.encode(torch.cat([batch, batch.flip(-1)])).latent_dist.mean.detach()
    assert float((means * vae.config.scaling_factor).std()) == pytest.approx(1, abs=0.01)


def test_both_losses_fall() -> None:
    torch.manual_seed(0)
    images = torch.rand(4, 3, 4, 4).repeat_interleave(8, -1).repeat_interleave(8, -2) * 2 - 1
    vae, unet = pretraining.make_vae(TINY_VAE, 32), pretraining.make_unet(TINY_UNET, 16)
    noise, alphas = torch.randn(4, 4, 16, 16), pretraining.make_scheduler().alphas_cumprod
    timesteps = pretraining.stratified_timesteps(4, generator(0, "unet", 0))
    trainings: list[tuple[torch.nn.Module, Callable[..., torch.Tensor], tuple[torch.Tensor, ...]]] = [
        (vae, lambda x, n: pretraining.vae_loss(vae, x, n, TINY_VAE), (images, noise)),
        (unet, lambda x, n, t: pretraining.denoising_loss(unet, x, n, t, alphas), (noise.roll(1, 0), noise, timesteps)),
    ]
    for module, loss, batch in trainings:
        optimisation = Optimisation(module, OptimisationConfig(steps=40, learning_rate=5e-3, warmup=5))
        with Shares(1, torch.device("cpu"), bf16=True) as shares:
            values = []
            for _ in range(40):
                value, gradients = shares.gradients(optimisation.parameters, loss, batch)
                optimisation.update(gradients)
                values.append(value)
        assert values[-1] < 0.75 * values[0], type(module).__name__


@pytest.mark.parametrize("count", [2, 3, 7])
def test_the_number_of_shares_changes_nothing(count: int) -> None:
    weight = torch.randn(5, requires_grad=True)
    batch = (torch.randn(6, 5), torch.randn(6))

    def loss(inputs: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return (inputs @ weight - wanted).square().mean()

    with Shares(count, torch.device("cpu"), bf16=False) as shares:
        value, gradients = shares.gradients([weight], loss, batch)
    whole = loss(*batch)
    assert value == pytest.approx(float(whole.detach()), rel=1e-5)
    torch.testing.assert_close(gradients[0], torch.autograd.grad(whole, weight)[0])


def test_timesteps_are_uniform_and_stratified() -> None:
    drawn = torch.stack([pretraining.stratified_timesteps(10, generator(0, "unet", step)) for step in range(500)])
    assert drawn.min() >= 0
    assert drawn.max() <= 999
    assert (drawn.sort(1).values // 100 == torch.arange(10)).all()
    # Shares of a batch must see all noise levels: the order is random.
    assert drawn[:, :5].float().mean() == pytest.approx(499.5, abs=15)


def test_the_loss_of_perfect_noise_prediction_is_zero() -> None:
    noise, latents = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    scheduler = pretraining.make_scheduler()
    timesteps = torch.tensor([3, 900])

    class Oracle:
        def __call__(self, noisy: torch.Tensor, t: torch.Tensor, prompt: torch.Tensor) -> Any:
            torch.testing.assert_close(noisy, scheduler.add_noise(latents, noise, timesteps))
            assert prompt.shape == (2, 1, 32)
            return type("Output", (), {"sample": noise})

    loss = pretraining.denoising_loss(Oracle(), latents, noise, timesteps, scheduler.alphas_cumprod)
    assert float(loss) == 0


def test_a_model_may_go_on_from_another(photos: Path, tmp_path: Path, model: Path) -> None:
    """Its autoencoder stays to the bit, its UNet learns from there."""
    changes = {"start": str(model), "vae": {}, "seed": 1}
    still = TINY_UNET.updated(optimisation=TINY_UNET.optimisation.updated(learning_rate=1e-9))
    for name, unet in (("still", still), ("moved", TINY_UNET)):
        folder = Path(pretrain(job(photos, tmp_path / name, unet=unet, **changes), JOB))
        same = {part: torch.equal(value, weights(folder)[part]) for part, value in weights(model).items()}
        assert all(same[part] for part in same if name == "still" or part.startswith("vae/"))
    assert not any(same[part] for part in same if part.startswith("unet/") and part.endswith("conv1.weight"))
    assert f"6 steps of 4 images from that of {model}" in (folder / "README.md").read_text()


def test_the_unet_learns_from_all_views(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All views of the images, then of their mirror images; view 0 is the image itself."""
    seen: list[torch.Tensor] = []

    def record(self: Any, latents: torch.Tensor) -> UNet2DConditionModel:
        seen.append(latents)
        return pretraining.make_unet(TINY_UNET, 16)

    monkeypatch.setattr("uldscale.stages.pretrain._Training.denoiser", record)
    for count in (1, 3):
        folder = pretrain(job(photos, tmp_path / str(count), views={"count": count, "rotation": 30}), JOB)
    alone, moved = (latents.unflatten(0, (14, -1)) for latents in seen)
    assert moved.shape[:2] == (14, 3)
    torch.testing.assert_close(moved[:, 0] / moved[:, 0].std(), alone[:, 0] / alone[:, 0].std())
    assert (moved[:, 1:] - moved[:, :1]).abs().amax((2, 3, 4)).min() > 0.1
    assert "7 images and their mirror images in 3 views each" in (Path(folder) / "README.md").read_text()


def test_a_unet_of_other_prompts_is_refused(photos: Path, tmp_path: Path) -> None:
    UNet2DConditionModel(
        block_out_channels=(8, 8), down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
        norm_num_groups=4, layers_per_block=1, cross_attention_dim=8,
    ).save_pretrained(tmp_path / "other" / "unet")  # fmt: skip
    pretraining.make_vae(TINY_VAE, 32).save_pretrained(tmp_path / "other" / "vae")
    with pytest.raises(ModelError, match="takes prompts 8 numbers wide, wanted 32"):
        pretrain(job(photos, tmp_path / "model", start=str(tmp_path / "other")), JOB)


def test_settings_that_no_network_can_have_are_refused() -> None:
    tree = {"output": "x", "data": {"kind": "faces3d", "train": 1}}
    for change, message in [
        ({"vae": {"channels": [8, 12], "norm_groups": 8}}, r"norm_groups must divide all of channels \(8, 12\), got 8"),
        (
            {"unet": {"channels": [16, 24], "norm_groups": 8, "heads": 5}},
            "heads must divide the lowest level's 24 channels",
        ),
        ({"data": {"kind": "faces3d", "train": 1, "size": 72}}, "data.size must be a multiple of 16"),
    ]:
        with pytest.raises(ConfigError, match=message):
            settings.validate(PretrainConfig, {**tree, **change}, "job")


def test_the_shipped_model_has_nine_taps_and_fits_in_16_megabytes() -> None:
    config = settings.load(PretrainConfig, JOB)
    with torch.device("meta"):
        vae = pretraining.make_vae(config.vae, config.data.size)
        unet = pretraining.make_unet(config.unet, config.data.size // 4)
    assert 2 * (vae.num_parameters() + unet.num_parameters()) <= 15.9e6
    assert sum(len(block.resnets) for block in unet.up_blocks) == 9


def test_the_checkpoint_is_safetensors(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretraining, "unit_scale", lambda latents: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pretrain(job(photos, tmp_path / "model"), JOB)
    state = safetensors.torch.load(files.read_bytes(str(tmp_path / "model.partial" / "vae.safetensors")))
    assert int(state["step"]) == 6
    assert any(name.startswith("exp_avg_sq/") for name in state)


def test_the_same_command_after_the_end_does_nothing(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = job(photos, tmp_path / "model")
    pretrain(again, JOB)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "model").rglob("*")}
    # A kill between the last two operations of a run leaves this folder.
    (tmp_path / "model.partial").mkdir()
    capsys.readouterr()
    assert pretrain(again, JOB) == str(tmp_path / "model")
    assert "is there already" in capsys.readouterr().out
    assert not (tmp_path / "model.partial").exists()
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "model").rglob("*")}


def test_the_unet_sees_latents_of_unit_deviation(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []

    def record(unet: torch.nn.Module, latents: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        seen.append(latents)
        return sum((weight.sum() for weight in unet.parameters()), torch.zeros(()))

    monkeypatch.setattr(pretraining, "denoising_loss", record)
    folder = Path(pretrain(job(photos, tmp_path / "model"), JOB))
    assert abs(AutoencoderKL.from_pretrained(folder / "vae").config.scaling_factor - 1) > 0.3
    assert float(torch.cat(seen).std()) == pytest.approx(1, abs=0.2)
