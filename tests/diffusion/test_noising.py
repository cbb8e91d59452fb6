"""Noise: known values, seeded by image and timestep, and the closed form of the forward process."""

import numpy as np
import pytest
import torch

from uldscale.diffusion.noising import add_noise, noise, view_id


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
