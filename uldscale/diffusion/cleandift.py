"""CleanDIFT as a backbone: the UNet of Stable Diffusion 1.5 or 2.1, tuned to give its features without noise.

Stracke et al. 2025, "CleanDIFT: Diffusion Features without Noise". One call with the clean latents and a prompt that fits the
images ("A photo of a face"). In the place of the timestep it learned one number, from 261 on and so slowly that float32 kept it there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from torch import Tensor

from uldscale.diffusion import taps
from uldscale.diffusion.backbone import BackboneConfig, Mode
from uldscale.diffusion.stable_diffusion import StableDiffusion
from uldscale.diffusion.taps import Tap


@dataclass(frozen=True)
class CleanDift(StableDiffusion):
    """Taps are what the middle and each decoder layer end with: its attention where it has one, the last its upsampler.

    The last two layers were not tuned. "us6" of its authors, the best for correspondence, is up_blocks.1.upsamplers.0.
    """

    modes: ClassVar[tuple[Mode, ...]] = ("clean",)
    clean_timestep: ClassVar[int] = 261

    @classmethod
    def _weight_hash(cls, config: BackboneConfig, folder: str, unet: Mapping[str, Any]) -> str:
        # The same weights called in another way.
        return f"{super()._weight_hash(config, folder, unet)}-cleandift"

    @property
    def tap_names(self) -> tuple[str, ...]:
        names = ["mid_block"] if self.unet.mid_block is not None else []
        for level, block in enumerate(self.unet.up_blocks):
            part = "attentions" if hasattr(block, "attentions") else "resnets"
            names += [f"up_blocks.{level}.{part}.{layer}" for layer in range(len(block.resnets))]
            if block.upsamplers is not None:
                names[-1] = f"up_blocks.{level}.upsamplers.0"
        return tuple(names[:-2])

    def describe(self, names: Sequence[str], image_size: int) -> list[Tap]:
        return [self._describe(name, image_size // self.image_multiple) for name in names]

    def _describe(self, name: str, coarsest: int) -> Tap:
        if name == "mid_block":
            return Tap(name, self.unet.config.block_out_channels[-1], coarsest)
        _, level, part, _ = name.split(".")
        side = coarsest << (int(level) + (part == "upsamplers"))
        return Tap(name, self.unet.up_blocks[int(level)].resnets[0].out_channels, side)

    def maps(self, names: Sequence[str], latents: Tensor, timesteps: Tensor) -> dict[str, Tensor]:
        *inputs, condition = self.call(latents, timesteps)
        modules = {name: self.unet.get_submodule(name) for name in names}
        return taps.outputs(partial(self.unet, *inputs, **condition), modules)
