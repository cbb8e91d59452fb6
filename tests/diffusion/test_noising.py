"""Noise: known values, seeded by image and timestep, and the closed form of the forward process."""

import numpy as np
import pytest
import torch

from uldscale.diffusion.noising import add_noise, inversion_timesteps, invert, noise, view_id


def draw(name: str | None = "face", seed: int = 0, timestep: int = 50) -> torch.Tensor:
    return noise((4, 8, 8), seed=seed, timestep=timestep, name=name)


def test_the_noise_of_an_image_never_changes() -> None:
    """Stores outlive versions of this package: other noise would be other features under the same specification."""
    known = [-0.55787, -0.23151, 0.19355, -1.53894]
    np.testing.assert_allclose(draw().flatten()[:4], known, atol=1e-4)
    assert torch.equal(draw(), draw())


@pytest.mark.parametrize("other", [{"name": "face#1"}, {"name": None}, {"seed": 1}, {"timestep": 51}])
def test_noise_differs_by_image_seed_and_timestep(other: dict[str, object]) -> None:
    correlation = np.corrcoef(draw().flatten(), draw(**other).flatten())[0, 1]  # type: ignore[arg-type]
    assert abs(correlation) < 0.25


def test_noise_is_standard_normal() -> None:
    values = noise((4, 100, 100), seed=3, timestep=1, name="x")
    assert values.dtype == torch.float32
    assert abs(float(values.mean())) < 0.02
    assert abs(float(values.std()) - 1) < 0.02


def test_names_cannot_run_into_seeds() -> None:
    assert not torch.equal(noise((9,), seed=1, timestep=12, name="3"), noise((9,), seed=11, timestep=2, name="3"))


def test_view_zero_is_the_image() -> None:
    assert [view_id("a/b.png", view) for view in range(3)] == ["a/b.png", "a/b.png#1", "a/b.png#2"]


def test_add_noise_has_a_step_of_its_own_for_every_image() -> None:
    alphas_cumprod = torch.tensor([1.0, 0.64, 0.0])
    latents, eps = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2)
    noised = add_noise(latents, eps, torch.tensor([0, 1, 2]), alphas_cumprod)
    torch.testing.assert_close(noised[0], latents[0])
    torch.testing.assert_close(noised[1], 0.8 * latents[1] + 0.6 * eps[1])
    torch.testing.assert_close(noised[2], eps[2])


def test_add_noise_agrees_with_diffusers() -> None:
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    latents, eps, timesteps = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8), torch.tensor([1, 261, 999])
    ours = add_noise(latents, eps, timesteps, scheduler.alphas_cumprod)
    torch.testing.assert_close(ours, scheduler.add_noise(latents, eps, timesteps))


def test_timesteps_of_the_inversion() -> None:
    """The eleven saved steps 49, 45, ..., 5, 0 of Diffusion Hyperfeatures, which counts from noise to clean latents."""
    walk = inversion_timesteps(1000)
    assert len(walk) == 50
    saved = [49, 45, 40, 35, 30, 25, 20, 15, 10, 5, 0]
    assert [walk[49 - step] for step in saved] == [-1, 60, 160, 260, 360, 460, 560, 660, 760, 860, 960]


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_inversion_with_a_true_prediction_is_forward_noising(prediction: str) -> None:
    alphas = torch.linspace(0.999, 0.01, 1000)
    clean, eps = torch.randn(2, 2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    at = add_noise(clean, eps, torch.tensor([20, 20]), alphas)
    alpha = alphas[20]
    said = eps if prediction == "epsilon" else alpha.sqrt() * eps - (1 - alpha).sqrt() * clean
    expected = add_noise(clean, eps, torch.tensor([40, 40]), alphas)
    torch.testing.assert_close(invert(at, said, 20, 40, alphas, prediction), expected)
    torch.testing.assert_close(invert(clean, eps, -1, 40, alphas, prediction), expected)
