"""Optimisation that resumes.

Law: a step depends on the state and on (seed, step) only, so n + m steps = n steps, restart, m steps.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

import torch
from torch import Tensor, nn

from uldscale.config import Settings


class OptimisationConfig(Settings):
    """How long and how fast a network is trained."""

    steps: int
    """Optimiser steps."""
    batch: int = 16
    """Images per step."""
    learning_rate: float = 5e-4
    """Rate of AdamW after the warm-up; constant, so that a training can be cut short or made longer."""
    warmup: int = 100
    """Steps of linear warm-up."""
    average: float = 0.999
    """Decay of the moving average of the weights, which is what is kept."""


def generator(seed: int, name: str, step: int) -> torch.Generator:
    """Randomness of one step of one training; on the CPU, so that it is the same on every device."""
    digest = hashlib.sha256(f"{seed}/{name}/{step}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7]))


class Optimisation:
    """AdamW with warm-up, gradient clipping and a moving average of the weights.

    `step` counts the updates that are done. `state` and `restore` carry everything that the next update depends on.
    """

    def __init__(self, module: nn.Module, config: OptimisationConfig) -> None:
        self.module, self.config, self.step = module, config, 0
        self.weights = dict(module.named_parameters())
        self.average = {name: weight.detach().clone() for name, weight in self.weights.items()}
        self._adam = torch.optim.AdamW(self.weights.values(), lr=config.learning_rate, weight_decay=0.01, fused=True)
        for weight in self.weights.values():
            self._adam.state[weight] = {
                "step": torch.zeros((), device=weight.device),
                "exp_avg": torch.zeros_like(weight),
                "exp_avg_sq": torch.zeros_like(weight),
            }

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The weights, in the order of the gradients that `update` takes."""
        return list(self.weights.values())

    def update(self, gradients: Sequence[Tensor]) -> None:
        """One step down the gradients of all parameters. Raises RuntimeError when they are not finite."""
        for weight, gradient in zip(self.parameters, gradients, strict=True):
            weight.grad = gradient
        nn.utils.clip_grad_norm_(self.parameters, 1.0, error_if_nonfinite=True)
        self._adam.param_groups[0]["lr"] = self.learning_rate()
        self._adam.step()
        self.step += 1
        # Early weights are far from the last ones: the average forgets faster at first.
        decay = min(self.config.average, (1 + self.step) / (10 + self.step))
        current = [weight.detach() for weight in self.parameters]
        torch._foreach_lerp_(list(self.average.values()), current, 1 - decay)

    def learning_rate(self) -> float:
        """Rate of the next update."""
        return self.config.learning_rate * min(1.0, (self.step + 1) / max(1, self.config.warmup))

    def state(self) -> dict[str, Tensor]:
        """Flat tensors: step, weights, their moving average, moments of AdamW."""
        state = {"step": torch.tensor(self.step)}
        for name, weight in self.weights.items():
            state[f"weight/{name}"] = weight.detach()
            state[f"average/{name}"] = self.average[name]
            state |= {f"{key}/{name}": value for key, value in self._adam.state[weight].items()}
        return {key: value.contiguous() for key, value in state.items()}

    @torch.no_grad()
    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave. Raises KeyError or RuntimeError for the state of another module."""
        self.step = int(state["step"])
        for name, weight in self.weights.items():
            weight.copy_(state[f"weight/{name}"])
            self.average[name].copy_(state[f"average/{name}"])
            for key, value in self._adam.state[weight].items():
                value.copy_(state[f"{key}/{name}"])

    @torch.no_grad()
    def finish(self) -> None:
        """Put the moving average into the module and make it ready for use."""
        for name, weight in self.weights.items():
            weight.copy_(self.average[name])
        self.module.eval().requires_grad_(False)


class Shares:
    """Gradients of a batch, computed as equal shares side by side; a context manager.

    Threads that meet once a step lose little on cores that others use too. The threads inside the operations of torch
    meet hundreds of times a step: measured 30 times slower on two busy cores.
    """

    def __init__(self, count: int, device: torch.device, bf16: bool) -> None:
        self.count, self.device, self.bf16 = count, device, bf16

    def __enter__(self) -> Self:
        self._threads = torch.get_num_threads()
        inner = max(1, self._threads // self.count)
        # The optimiser runs on the calling thread, and its many small operations suffer most.
        torch.set_num_threads(inner)
        self._pool = ThreadPoolExecutor(self.count, initializer=torch.set_num_threads, initargs=(inner,))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()
        torch.set_num_threads(self._threads)

    def gradients(
        self, parameters: Sequence[Tensor], loss: Callable[..., Tensor], batch: Sequence[Tensor]
    ) -> tuple[float, list[Tensor]]:
        """Mean over the batch of the loss and of its gradients; `loss` takes the tensors (B, ...) of `batch`.

        It is the same for any number of shares that divides B, except for rounding.
        """
        size = len(batch[0])
        split = [tensor.to(self.device).tensor_split(self.count) for tensor in batch]
        parts = [part for part in zip(*split, strict=True) if len(part[0])]
        done = list(self._pool.map(lambda part: self._part(parameters, loss, part), parts))
        shares = [len(part[0]) / size for part in parts]
        value = sum(share * value for share, (value, _) in zip(shares, done, strict=True))
        total = [gradient * shares[0] for gradient in done[0][1]]
        for share, (_, gradients) in zip(shares[1:], done[1:], strict=True):
            torch._foreach_add_(total, gradients, alpha=share)
        return value, total

    def _part(
        self, parameters: Sequence[Tensor], loss: Callable[..., Tensor], part: Sequence[Tensor]
    ) -> tuple[float, tuple[Tensor, ...]]:
        # Autocast belongs to a thread. Not backward(): threads would race for the same .grad.
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            value = loss(*part)
        gradients = torch.autograd.grad(value, parameters)
        return float(value.detach()), gradients
