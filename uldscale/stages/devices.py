"""On what a job can be planned: GPUs by the figures of their data sheets, and the CPU at hand by a measurement."""

import re
import time
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch

from uldscale.errors import ConfigError
from uldscale.runtime.machine import Card

UTILISATION = 0.4
"""Share of a GPU's peak that a job is taken to reach; an assumption until it is measured on the GPU at hand."""
CPU_EXTRACTION, CPU_TRAINING = 0.4, 0.2
"""The same of what a CPU multiplies matrices with; the demo has these on two cores, its starts and rounds of labels included."""
CPU = "cpu"
WHOLE = 0.85
"""Share of a card's memory that torch sees at least; of a part of it (MIG), or one with half of it, less."""

Precision = Literal["bfloat16", "float32"]


@dataclass(frozen=True)
class Gpu:
    """Data sheet figures, 10^12 operations a second."""

    bfloat16: float
    """Dense, in tensor cores, with sums in float32."""
    float32: float
    """Outside of tensor cores, where torch multiplies matrices of float32. Its convolutions take TF32, so hours are an upper bound."""
    dollars: float
    """An hour, about what clouds ask on demand; negotiate. 0: nobody rents it out."""
    memory_gib: int

    def peak(self, precision: Precision) -> float:
        """Operations a second."""
        return (self.bfloat16 if precision == "bfloat16" else self.float32) * 1e12


GPUS = {
    # t4 has no units for bfloat16 and computes it like float32.
    "t4": Gpu(8.1, 8.1, 0.4, 16),
    "l4": Gpu(121, 30.3, 0.8, 24),
    "a10g": Gpu(70, 31.5, 1.2, 24),
    "l40s": Gpu(362, 91.6, 1.9, 48),
    "a100": Gpu(312, 19.5, 3.0, 80),
    "h100": Gpu(989, 67, 6.0, 80),
    "h200": Gpu(989, 67, 7.0, 141),
    "rtx3090": Gpu(71, 35.6, 0.3, 24),
    "rtx4090": Gpu(165, 82.6, 0.5, 24),
    "rtx5090": Gpu(209, 104.8, 0.8, 32),
    # An RTX 4060 of 100 W: one of the least with which a diffusion model of 512 pixels makes sense.
    "laptop": Gpu(46, 11.6, 0.0, 8),
}


def gpu_of(name: str) -> Gpu:
    """Figures of a GPU. Raises ConfigError for an unknown one."""
    if name not in GPUS:
        raise ConfigError(
            f"unknown GPU {name!r}; wanted one of {', '.join(GPUS)}, or {CPU} for the CPU of this machine"
        )
    return GPUS[name]


def named(card: Card) -> str | None:
    """Name in GPUS of a card of this machine; None for one that is not there, or has less memory than the one of that name."""
    words = re.findall("[a-z0-9]+", card.name.lower().replace("rtx ", "rtx"))
    if "laptop" in words:
        return "laptop"
    known = next((name for name in GPUS if name in words), None)
    return known if known and card.memory_gib > WHOLE * GPUS[known].memory_gib else None


def spent(flops: float, precision: Precision, gpu: str) -> str:
    """Operations, and what they take of a GPU."""
    card = gpu_of(gpu)
    hours = flops / (card.peak(precision) * UTILISATION) / 3600
    price = f", ${hours * card.dollars:,.2f} at ${card.dollars:g} an hour" if card.dollars else ""
    return f"{operations(flops)}, {duration(hours)} of one {gpu} at {UTILISATION:.0%} of its {precision} peak{price}"


def spent_here(flops: float, utilisation: float, cores: int) -> str:
    """Operations, and what they take of some cores of this machine."""
    hours = flops / (cores * _core() * utilisation) / 3600
    return f"{operations(flops)}, about {minutes(hours)} on {cores} CPU cores of this machine, or up to twice that"


def operations(count: float) -> str:
    """In words."""
    return f"{count / 1e12:,.1f} TFLOP" if count < 1e15 else f"{count / 1e15:,.1f} PFLOP"


def duration(hours: float) -> str:
    """In words."""
    return f"{hours:,.1f} hours" if hours >= 0.1 else f"{hours * 3600:,.1f} seconds"


def minutes(hours: float) -> str:
    """In words, for a person who may wait for it."""
    if hours >= 2:
        return f"{hours:,.1f} hours"
    whole = max(1, round(hours * 60))
    return f"{whole} minute{'s' if whole > 1 else ''}"


@cache
def _core() -> float:
    """Operations a second with which one thread multiplies matrices of float32 here: the best of a few tries."""
    threads, matrix = torch.get_num_threads(), torch.ones(768, 768)
    torch.set_num_threads(1)
    try:
        return 2 * 768**3 / min(_seconds(matrix) for _ in range(20))
    finally:
        torch.set_num_threads(threads)


def _seconds(matrix: torch.Tensor) -> float:
    start = time.perf_counter()
    torch.mm(matrix, matrix)
    return time.perf_counter() - start
