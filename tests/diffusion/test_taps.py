"""Taps: the golden list of SD 1.5, the right tensor, and a cut that changes nothing."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch._dynamo.utils import counters

from uldscale.diffusion.taps import Tap, compile_blocks, decoder_blocks, describe, read, read_whole, select
from uldscale.errors import ConfigError

Call = tuple[Tensor, Tensor, dict[str, Tensor]]
NAMES = tuple(f"up_blocks.{level}.resnets.{block}" for level in range(2) for block in range(2))


@pytest.fixture(scope="module")
def unet(ldm: Path) -> UNet2DConditionModel:
    return UNet2DConditionModel.from_pretrained(ldm / "unet", low_cpu_mem_usage=False).float().eval()


@pytest.fixture(scope="module")
def call() -> Call:
    random = torch.Generator().manual_seed(1)
    latents = torch.randn(3, 4, 8, 8, generator=random)
    prompt = torch.randn(1, 5, 6, generator=random).expand(3, -1, -1)
    return latents, torch.tensor([1, 50, 300]), {"encoder_hidden_states": prompt}


def test_golden_taps_of_sd_1_5() -> None:
    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768)
    taps = describe(unet, decoder_blocks(unet), latent_side=64)
    assert [tap.channels for tap in taps] == [1280] * 6 + [640] * 3 + [320] * 3
    assert [tap.side for tap in taps] == [8] * 3 + [16] * 3 + [32] * 3 + [64] * 3
    assert taps[4] == Tap("up_blocks.1.resnets.1", 1280, 16)


def test_description_is_what_comes_out(unet: UNet2DConditionModel, call: Call) -> None:
    with torch.no_grad():
        found = read(unet, NAMES, *call)
    assert [(name, maps.shape[1], maps.shape[2]) for name, maps in found.items()] == describe(unet, NAMES, 8)


def test_a_tap_is_a_block_without_its_shortcut(unet: UNet2DConditionModel, call: Call) -> None:
    """Block output = (shortcut + tap) / output_scale_factor, with the input of the block seen by another hook."""
    block = unet.get_submodule(NAMES[2])
    seen: dict[str, Tensor] = {}
    hook = block.register_forward_hook(lambda module, inputs, output: seen.update(input=inputs[0], output=output))
    with torch.no_grad():
        unet(call[0], call[1], **call[2])
        hook.remove()
        tap = read(unet, NAMES[2:3], *call)[NAMES[2]]
        expected = (block.conv_shortcut(seen["input"]) + tap) / block.output_scale_factor
    torch.testing.assert_close(seen["output"], expected)


@pytest.mark.parametrize("wanted", [NAMES, NAMES[:1], NAMES[1:3]])
def test_the_cut_changes_no_bit(unet: UNet2DConditionModel, call: Call, wanted: tuple[str, ...]) -> None:
    full: dict[str, Tensor] = {}
    hooks = [
        unet.get_submodule(f"{name}.conv2").register_forward_hook(
            lambda module, inputs, output, name=name: full.update({name: output.clone()})
        )
        for name in wanted
    ]
    with torch.no_grad():
        unet(call[0], call[1], **call[2])
        for hook in hooks:
            hook.remove()
        cut = read(unet, wanted, *call)
    assert list(cut) == list(wanted)
    assert all(torch.equal(cut[name], full[name]) for name in wanted)


def test_nothing_runs_after_the_last_tap_and_no_hook_stays(unet: UNet2DConditionModel, call: Call) -> None:
    calls: list[str] = []
    hooks = [
        unet.get_submodule(name).register_forward_pre_hook(lambda module, inputs, name=name: calls.append(name))
        for name in ("mid_block", "up_blocks.0", "up_blocks.1", "conv_out")
    ]
    with torch.no_grad():
        read(unet, NAMES[:2], *call)
        assert calls == ["mid_block", "up_blocks.0"]
        unet(call[0], call[1], **call[2])
    assert calls[2:] == ["mid_block", "up_blocks.0", "up_blocks.1", "conv_out"]
    for hook in hooks:
        hook.remove()


def test_an_error_in_the_model_is_not_swallowed(unet: UNet2DConditionModel, call: Call) -> None:
    with pytest.raises(RuntimeError):
        read(unet, NAMES, call[0][:, :3], call[1], call[2])
    assert not unet.get_submodule(f"{NAMES[0]}.conv2")._forward_hooks


def test_select_keeps_the_order_of_the_decoder(unet: UNet2DConditionModel) -> None:
    assert select(decoder_blocks(unet), "all") == NAMES
    assert select(NAMES, [NAMES[3], NAMES[0], NAMES[0]]) == (NAMES[0], NAMES[3])


@pytest.mark.parametrize(("wanted", "got"), [(["up_blocks.9.resnets.0"], "up_blocks.9"), ([], "empty")])
def test_select_names_what_there_is(wanted: list[str], got: str) -> None:
    with pytest.raises(ConfigError, match=rf"taps: .*{got}.*up_blocks.0.resnets.0, up_blocks.0.resnets.1"):
        select(NAMES, wanted)


def test_read_whole_is_the_same_taps_and_what_the_model_says(unet: UNet2DConditionModel, call: Call) -> None:
    with torch.no_grad():
        found, said = read_whole(unet, NAMES[:2], *call)
        cut, expected = read(unet, NAMES[:2], *call), unet(call[0], call[1], **call[2]).sample
    assert torch.equal(said, expected)
    assert found.keys() == cut.keys()
    assert all(torch.equal(found[name], cut[name]) for name in cut)


def test_compiled_blocks_give_the_same_maps(ldm: Path, call: Call) -> None:
    unet = UNet2DConditionModel.from_pretrained(ldm / "unet", low_cpu_mem_usage=False).float().eval()
    with torch.no_grad():
        plain = read(unet, NAMES[:2], *call)
        compile_blocks(unet, NAMES[:2])
        compiled = read(unet, NAMES[:2], *call)
    assert unet.get_submodule("up_blocks.1.resnets.0")._compiled_call_impl is not None
    assert unet.get_submodule(NAMES[0])._compiled_call_impl is None
    for name in plain:
        torch.testing.assert_close(compiled[name], plain[name], atol=1e-5, rtol=1e-4)


def test_every_shape_is_compiled(ldm: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the thread of the model, and beyond the 8 shapes after which torch runs a block as it is."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    unet = UNet2DConditionModel.from_pretrained(ldm / "unet", low_cpu_mem_usage=False).float().eval()
    compile_blocks(unet, NAMES)
    torch.compiler.reset()
    counters.clear()
    latents, timesteps, condition = call

    def run(batch: int) -> int:
        text = condition["encoder_hidden_states"][:1].expand(batch, -1, -1)
        with torch.inference_mode():
            read(
                unet,
                NAMES,
                latents[:1].expand(batch, -1, -1, -1),
                timesteps[:1].expand(batch),
                {"encoder_hidden_states": text},
            )
        return int(counters["frames"]["ok"])

    with ThreadPoolExecutor(1) as model:
        compiled = [model.submit(run, batch).result() for batch in range(1, 13)]
    assert compiled == [compiled[0] * batch for batch in range(1, 13)]
    assert counters["frames"]["total"] == compiled[-1] > 0
