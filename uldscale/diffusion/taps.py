"""Taps: the maps inside a model that serve as features, found by hooks in one call that ends with the last of them.

That of Stable Diffusion is the output of the second convolution of a decoder ResNet block, before the shortcut is added (Luo et
al. 2023, Diffusion Hyperfeatures). It is named as diffusers names the block: "up_blocks.0.resnets.1".
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn

from uldscale.errors import ConfigError

SHAPES = 128
"""Most shapes of one kind of block that are compiled: up to 14 in a UNet of SD 1.5, as many again whenever the batch is halved."""


class Tap(NamedTuple):
    """One tap: its name, channels, and the side of its square maps in cells."""

    name: str
    channels: int
    side: int


def select(names: Sequence[str], wanted: Literal["all"] | Sequence[str]) -> tuple[str, ...]:
    """The wanted ones of the names of all taps, in their order. Raises ConfigError when there are none or unknown ones."""
    if wanted == "all":
        return tuple(names)
    unknown = [name for name in wanted if name not in names]
    if unknown or not wanted:
        got = f"the model has no {unknown[0]!r}" if unknown else "empty"
        raise ConfigError(f"features.taps: {got}; wanted 'all' or some of {', '.join(names)}")
    return tuple(name for name in names if name in wanted)


def outputs(call: Callable[[], object], modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """What some modules of a model put out in one call of it, cut off after the last; of several outputs the first."""
    with _kept(modules, len(modules)) as found, suppress(_AllFound):
        call()
    return {name: found[name] for name in modules}


def decoder_blocks(unet: nn.Module) -> tuple[str, ...]:
    """Names of the taps of a UNet, in the order of the decoder."""
    ups: Any = unet.get_submodule("up_blocks")
    return tuple(f"up_blocks.{level}.resnets.{i}" for level, block in enumerate(ups) for i in range(len(block.resnets)))


def describe(unet: nn.Module, names: Sequence[str], latent_side: int) -> list[Tap]:
    """Channels and side of each tap for latents of `latent_side` cells, from shapes alone."""
    last = _level(decoder_blocks(unet)[-1])
    return [
        Tap(name, _second_convolution(unet, name).out_channels, latent_side >> (last - _level(name))) for name in names
    ]


def read(
    unet: nn.Module, names: Sequence[str], latents: Tensor, timesteps: Tensor, condition: Mapping[str, Any]
) -> dict[str, Tensor]:
    """One forward call of the UNet, cut off after the last tap.

    latents: (B, Z, H, W); timesteps: (B,); condition: from Backbone.condition. Returns (B, Cin, side, side) by name.
    """
    return outputs(partial(unet, latents, timesteps, **condition), _second_convolutions(unet, names))


def read_whole(
    unet: nn.Module, names: Sequence[str], latents: Tensor, timesteps: Tensor, condition: Mapping[str, Any]
) -> tuple[dict[str, Tensor], Tensor]:
    """Like `read`, but to the end: also what the UNet says (B, Z, H, W)."""
    with _kept(_second_convolutions(unet, names)) as found:
        said: Tensor = unet(latents, timesteps, **condition).sample
    return found, said


def compile_blocks(unet: nn.Module, names: Sequence[str]) -> None:
    """Let torch.compile fuse what surrounds the convolutions and the attention, block by block.

    A block that holds a tap stays as it is: the hook of a tap may end the call. Whole-model compilation would break at
    every hook, and blocks of one shape share their kernels.
    """
    from diffusers.models.attention import BasicTransformerBlock
    from diffusers.models.resnet import ResnetBlock2D

    for name, module in unet.named_modules():
        if isinstance(module, ResnetBlock2D | BasicTransformerBlock) and name not in names:
            # Blocks of a kind share their code, and beyond 8 shapes torch would leave the others as they are. Its configuration
            # says so, too, but for the present thread only, and the model runs in another.
            module.compile(dynamic=False, recompile_limit=SHAPES)


class _AllFound(Exception):
    """Ends a forward call whose other layers nobody needs; only an exception leads from a hook out of the model."""


@contextmanager
def _kept(modules: Mapping[str, nn.Module], stop_at: int | None = None) -> Iterator[dict[str, Tensor]]:
    """What the modules put out while the context lasts; the call ends when `stop_at` of them were seen."""
    found: dict[str, Tensor] = {}
    with ExitStack() as hooks:
        for name, module in modules.items():
            hook = module.register_forward_hook(_keeper(found, name, stop_at))
            hooks.callback(hook.remove)
        yield found


def _keeper(found: dict[str, Tensor], name: str, stop_at: int | None) -> Callable[..., None]:
    def keep(module: nn.Module, inputs: Any, output: Tensor | tuple[Tensor, ...]) -> None:
        found[name] = output[0] if isinstance(output, tuple) else output
        if len(found) == stop_at:
            raise _AllFound

    return keep


def _second_convolutions(unet: nn.Module, names: Sequence[str]) -> dict[str, nn.Module]:
    return {name: _second_convolution(unet, name) for name in names}


def _second_convolution(unet: nn.Module, name: str) -> nn.Conv2d:
    convolution = unet.get_submodule(f"{name}.conv2")
    assert isinstance(convolution, nn.Conv2d)
    return convolution


def _level(name: str) -> int:
    return int(name.split(".")[1])
