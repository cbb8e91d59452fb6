"""Engines: one law for all of them, on one and on two real ranks."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from ray import cloudpickle
from torch import Tensor, nn

from uldscale.errors import ModelError
from uldscale.runtime.engine import Engine, EngineConfig, Rate, make_engine, read_weights
from uldscale.runtime.ranks import rank, world_size

cloudpickle.register_pickle_by_value(sys.modules[__name__])

ENGINES = {
    "ddp": EngineConfig(kind="ddp"),
    "zero0": EngineConfig(kind="deepspeed", zero=0),
    "zero1": EngineConfig(kind="deepspeed", zero=1),
}
RATE, WARMUP, BATCH = 0.05, 4, 8


class Net(nn.Module):
    """Five parameters of which one is frozen and one is never used."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)
        self.unused = nn.Parameter(torch.ones(2))
        self.register_buffer("scale", torch.tensor(2.0))

    def forward(self, rows: Tensor) -> dict[str, Tensor]:
        loss = (self.body(rows) * self.scale - rows.sum(1, keepdim=True)).square().mean()
        return {"loss": 10 * loss}


def engine_of(config: EngineConfig) -> Engine:
    torch.set_num_threads(1)
    return make_engine(Net(), config, Rate(RATE, WARMUP, 1000, 0))


def train(engine: Engine, steps: range) -> None:
    for step in steps:
        batch = torch.randn(BATCH, 4, generator=torch.Generator().manual_seed(step))
        share = batch.chunk(world_size())[rank()]
        engine.step(engine(share)["loss"])


def weights(engine: Engine) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in engine.module.state_dict().items()}


def straight(config: EngineConfig, steps: int) -> dict[str, Tensor]:
    engine = engine_of(config)
    train(engine, range(steps))
    return weights(engine)


def with_a_break(first: EngineConfig, second: EngineConfig, folder: str, cut: int, steps: int) -> dict[str, Tensor]:
    engine = engine_of(first)
    train(engine, range(cut))
    engine.save(folder)
    engine = engine_of(second)
    engine.load(folder)
    assert engine.steps == cut
    train(engine, range(cut, steps))
    return weights(engine)


def reference(steps: int) -> dict[str, Tensor]:
    """The same by hand, in plain torch."""
    net = Net()
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], betas=(0.9, 0.999))
    for step in range(steps):
        optimizer.zero_grad()
        net(torch.randn(BATCH, 4, generator=torch.Generator().manual_seed(step)))["loss"].backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = RATE * min(1.0, (step + 1) / WARMUP)
        optimizer.step()
    return net.state_dict()


@pytest.mark.parametrize("name", ENGINES)
def test_one_rank_is_plain_torch(name: str) -> None:
    torch.testing.assert_close(straight(ENGINES[name], 6), reference(6))


@pytest.mark.parametrize("name", ENGINES)
def test_two_ranks_are_one_with_the_same_global_batch(name: str, two_ranks: Any) -> None:
    first, second = two_ranks(straight, ENGINES[name], 6)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    torch.testing.assert_close(first, reference(6), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ENGINES)
def test_a_break_leaves_no_trace(name: str, tmp_path: Path) -> None:
    config = ENGINES[name]
    broken = with_a_break(config, config, str(tmp_path), 3, 6)
    torch.testing.assert_close(broken, straight(config, 6), rtol=0, atol=0)


@pytest.mark.parametrize("name", ENGINES)
def test_a_break_leaves_no_trace_on_two_ranks(name: str, two_ranks: Any, tmp_path: Path) -> None:
    config = ENGINES[name]
    broken, _ = two_ranks(with_a_break, config, config, str(tmp_path), 3, 6)
    torch.testing.assert_close(broken, two_ranks(straight, config, 6)[0], rtol=0, atol=0)


def test_another_engine_on_another_number_of_ranks_goes_on(two_ranks: Any, tmp_path: Path) -> None:
    def save(folder: str) -> None:
        engine = engine_of(ENGINES["zero1"])
        train(engine, range(3))
        engine.save(folder)

    two_ranks(save, str(tmp_path))
    engine = engine_of(ENGINES["ddp"])
    engine.load(str(tmp_path))
    train(engine, range(3, 6))
    torch.testing.assert_close(weights(engine), reference(6), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ENGINES)
def test_a_checkpoint_before_the_first_step(name: str, tmp_path: Path) -> None:
    broken = with_a_break(ENGINES[name], ENGINES[name], str(tmp_path), 0, 3)
    torch.testing.assert_close(broken, reference(3))


def test_frozen_weights_stay_and_have_no_moments(tmp_path: Path) -> None:
    engine = engine_of(ENGINES["zero0"])
    train(engine, range(2))
    assert engine.module.frozen.tolist() == [1, 1, 1]
    engine.save(str(tmp_path))
    torch.testing.assert_close(read_weights(str(tmp_path)), weights(engine), rtol=0, atol=0)


@pytest.mark.parametrize("name", ENGINES)
def test_bfloat16_is_only_in_the_forward_pass(name: str) -> None:
    engine = engine_of(ENGINES[name].updated(bf16=True))
    assert engine.module.body(torch.ones(1, 4)).dtype is torch.float32
    train(engine, range(3))
    assert {value.dtype for value in weights(engine).values()} == {torch.float32}
    exact = straight(ENGINES[name], 3)
    assert not torch.equal(weights(engine)["body.0.weight"], exact["body.0.weight"])
    torch.testing.assert_close(weights(engine), exact, rtol=0.1, atol=0.1)


def test_no_checkpoint_is_the_users_turn(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not there"):
        engine_of(ENGINES["ddp"]).load(str(tmp_path))


def test_the_checkpoint_of_another_stage_is_the_users_turn(tmp_path: Path) -> None:
    engine_of(ENGINES["ddp"]).save(str(tmp_path))
    other = Net()
    other.unused.requires_grad_(False)
    engine = make_engine(other, ENGINES["ddp"], Rate(RATE, WARMUP, 1000, 0))
    with pytest.raises(ModelError, match="exp_avg/unused"):
        engine.load(str(tmp_path))


def test_the_rate_rises_stays_and_falls() -> None:
    rate = Rate(8.0, warmup_steps=4, steps=10, cooldown_steps=3)
    assert [rate(step) for step in range(10)] == [2, 4, 6, 8, 8, 8, 8, 6, 4, 2]
    assert [Rate(8.0, 0, 3, 0)(step) for step in range(3)] == [8, 8, 8]
    assert [Rate(8.0, 2, 3, 3)(step) for step in range(3)] == [4, 4, 2], "a short stage never gets to the top"
