"""What this machine has: processors, memory and GPUs."""

import os
from dataclasses import dataclass
from typing import Self

import psutil
import torch


@dataclass(frozen=True)
class Card:
    """A GPU that torch can use."""

    name: str
    memory_gib: float
    bfloat16: bool
    """Whether it has units for it."""


@dataclass(frozen=True)
class Machine:
    """This machine, as far as this process may use it."""

    cpus: int
    memory_gib: float
    gpus: tuple[Card, ...]

    @classmethod
    def here(cls) -> Self:
        """Processors that this process may run on, memory of the machine or container, GPUs that torch sees."""
        return cls(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
                   min(psutil.virtual_memory().total, _limit()) / 2**30,
                   tuple(_card(number) for number in range(torch.cuda.device_count())))  # fmt: skip

    def words(self) -> str:
        """All of it in a line."""
        cards = ", ".join(f"{card.name} with {card.memory_gib:.0f} GiB" for card in self.gpus) or "no GPU"
        return f"{self.cpus} CPU cores, {self.memory_gib:.0f} GiB of memory, {cards}"


def _card(number: int) -> Card:
    known = torch.cuda.get_device_properties(number)
    return Card(known.name, known.total_memory / 2**30, known.major >= 8)


def _limit() -> float:
    """Bytes that a container may have."""
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        if os.path.isfile(path):
            with open(path) as file:
                text = file.read().strip()
            return float("inf") if text == "max" else float(text)
    return float("inf")
