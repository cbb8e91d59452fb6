from collections.abc import Mapping

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from uldscale.models.aggregator import Aggregator, AggregatorConfig, Bottleneck, group_norm

SMALL = AggregatorConfig(hidden=6, width=8)
STABLE_DIFFUSION = {"r08": (3, 1280), "r16": (3, 1280), "r32": (3, 640), "r64": (3, 320)}


def scales_of(layout: Mapping[str, tuple[int, int]]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: 0.1 + torch.rand(shape, generator=generator) for name, shape in layout.items()}


def codes_of(scales: Mapping[str, Tensor], timesteps: int = 3, batch: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.randint(
            -127, 128, (batch, timesteps, *scale.shape, int(name[1:]), int(name[1:])), generator=generator
        ).to(torch.int8)
        for name, scale in scales.items()
    }


def scattered(aggregator: Aggregator) -> Aggregator:
    """With mixing weights that all differ, in double precision."""
    with torch.no_grad():
        aggregator.mixing.copy_(torch.randn(aggregator.mixing.shape, generator=torch.Generator().manual_seed(2)))
    return aggregator.double()


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("channels", "parameters"), [(1280, 736_128), (640, 428_928), (320, 275_328)])
def test_bottleneck_has_the_published_size(channels: int, parameters: int) -> None:
    assert count(Bottleneck(channels, 96, 384)) == parameters


@pytest.mark.parametrize("timesteps", [1, 11])
def test_stable_diffusion_layout_has_the_published_size(timesteps: int) -> None:
    aggregator = Aggregator(scales_of(STABLE_DIFFUSION), timesteps, 64, AggregatorConfig())
    assert count(aggregator) == 6_529_536 + 12 * timesteps
    assert torch.allclose(aggregator.mixing_weights(), torch.full((12, timesteps), 1 / (12 * timesteps)))


def test_plain_weights_start_where_the_softmax_does() -> None:
    scales = scales_of({"r04": (2, 5)})
    softmax, plain = (Aggregator(scales, 3, 8, SMALL.updated(mixing=mixing)) for mixing in ("softmax", "plain"))
    assert torch.allclose(softmax.mixing_weights(), plain.mixing_weights())
    with torch.no_grad():
        plain.mixing.fill_(-2.0)
    assert (plain.mixing_weights() == -2).all()


@pytest.mark.parametrize("upsample_first", [True, False])
def test_equals_equation_2_written_out(upsample_first: bool) -> None:
    scales = scales_of({"r04": (2, 5), "r08": (1, 3), "r16": (1, 4)})
    codes = codes_of(scales)
    aggregator = scattered(Aggregator(scales, 3, 8, SMALL.updated(upsample_first=upsample_first)))

    def resized(maps: Tensor) -> Tensor:
        return functional.interpolate(maps, (8, 8), mode="bilinear")  # at half the side: means of 2 x 2 cells

    wanted, row = torch.zeros(2, 8, 8, 8, dtype=torch.float64), 0
    for name in ("r04", "r08", "r16"):
        resolution = aggregator.resolutions[name]
        for tap, bottleneck in enumerate(resolution.bottlenecks):
            for timestep in range(3):
                values = codes[name][:, timestep, tap].double() * resolution.steps[tap][:, None, None]
                maps = bottleneck(resized(values)) if upsample_first else resized(bottleneck(values))
                wanted += aggregator.mixing_weights()[row, timestep] * maps
            row += 1
    assert torch.allclose(aggregator(codes), wanted, atol=1e-12)


def test_codes_become_values_of_about_unit_size() -> None:
    generator = torch.Generator().manual_seed(0)
    deviations = torch.tensor([[5.0, 1.0, 0.2], [500.0, 100.0, 20.0]])
    scales = 3.2 * deviations / 127
    values = torch.randn(100_000, 2, 3, generator=generator) * deviations
    codes = (values / scales).round().clamp(-127, 127)
    steps = Aggregator({"r04": scales}, 1, 8, SMALL).resolutions["r04"].steps
    assert torch.allclose((codes * steps).square().mean((0, 2)).sqrt(), torch.ones(2), rtol=0.02)


def test_is_blind_to_the_overall_scale_of_a_tap() -> None:
    scales = scales_of({"r04": (2, 5)})
    aggregator = scattered(Aggregator(scales, 3, 8, SMALL))
    louder = scattered(Aggregator({"r04": scales["r04"] * torch.tensor([[1000.0], [1.0]])}, 3, 8, SMALL))
    louder.load_state_dict(aggregator.state_dict() | {"resolutions.r04.steps": louder.resolutions["r04"].steps})
    assert torch.allclose(aggregator(codes_of(scales)), louder(codes_of(scales)), atol=1e-5)


def test_a_dead_tap_is_harmless() -> None:
    scales = {"r04": torch.tensor([[1e-38, 1e-38], [0.5, 0.2]])}
    codes = codes_of(scales)
    codes["r04"][:, :, 0] = 0
    assert Aggregator(scales, 3, 8, SMALL)(codes).isfinite().all()


def test_takes_codes_and_floats_alike_and_timesteps_in_any_order() -> None:
    scales = scales_of({"r04": (2, 5), "r08": (1, 3)})
    codes = codes_of(scales)
    aggregator = scattered(Aggregator(scales, 3, 8, SMALL))
    maps = aggregator(codes)
    assert torch.equal(maps, aggregator({name: values.double() for name, values in codes.items()}))
    with torch.no_grad():
        aggregator.mixing.copy_(aggregator.mixing[:, [2, 0, 1]])
    assert torch.allclose(maps, aggregator({name: values[:, [2, 0, 1]] for name, values in codes.items()}))


def test_finer_maps_are_averaged_not_skipped() -> None:
    aggregator = Aggregator({"r32": torch.ones(1, 3)}, 1, 8, SMALL)
    aggregator.resolutions["r32"].bottlenecks[0] = torch.nn.Identity()
    stripes = torch.tensor([1, 1, 1, -3], dtype=torch.int8).repeat(8).expand(1, 1, 1, 3, 32, 32)  # of mean 0
    assert aggregator({"r32": stripes}).abs().max() < 1e-6


def test_gradient_reaches_every_parameter() -> None:
    aggregator = Aggregator(scales_of({"r04": (2, 5), "r08": (1, 3)}), 3, 8, SMALL)
    aggregator(codes_of(scales_of({"r04": (2, 5), "r08": (1, 3)}))).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in aggregator.parameters())


def test_other_timesteps_or_taps_are_refused() -> None:
    scales = scales_of({"r04": (2, 5)})
    aggregator = Aggregator(scales, 3, 8, SMALL)
    with pytest.raises(ValueError, match=r"\(T, L, C\) = \(2, 2, 5\), but the aggregator takes \(3, 2, 5\)"):
        aggregator(codes_of(scales, timesteps=2))


@pytest.mark.parametrize(("channels", "groups"), [(384, 32), (96, 32), (64, 16), (32, 8), (6, 2), (2, 1), (1, 1)])
def test_groups_keep_three_channels(channels: int, groups: int) -> None:
    assert group_norm(channels).num_groups == groups
