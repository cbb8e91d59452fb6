"""The process group of the training workers: who this rank is, and rows of all ranks in one tensor.

Law: nothing here reads a tensor, which would wait for a GPU.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed

from uldscale.runtime.seconds import Seconds

WAITED = Seconds()
"""What this process has spent in `gather` and `barrier`."""


def rank() -> int:
    """Number of this training worker; 0 outside of a process group."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def world_size() -> int:
    """Number of training workers; 1 outside of a process group."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def barrier() -> None:
    """Wait until all training workers are here."""
    if world_size() > 1:
        with WAITED.of("barrier"):
            torch.distributed.barrier()


def gather(tensor: torch.Tensor, counts: Sequence[int] | None = None) -> torch.Tensor:
    """Rows of all ranks, in rank order: (n_rank, ...) to (sum of n_rank, ...). Every rank must call it.

    `counts` are the n_rank of all ranks; None: all have as many as this one.

    Differentiable: the gradient of a row is the sum of its gradients over the ranks. So when the losses of the ranks add up to
    the loss of the whole batch, the sum of their gradients is the gradient that one process gets from it.
    """
    if world_size() == 1:
        return tensor
    with WAITED.of("gather"):
        rows = counts or [len(tensor)] * world_size()
        if len(tensor) != rows[rank()]:
            raise ValueError(f"rank {rank()} has {len(tensor)} rows, but counts are {list(rows)}")
        gathered: torch.Tensor = _Gather.apply(tensor, rows)  # type: ignore[no-untyped-call]
    return gathered


def total(tensor: torch.Tensor) -> torch.Tensor:
    """The sum over all ranks, without a gradient. Every rank must call it."""
    added = tensor.detach().clone()
    if world_size() > 1:
        with WAITED.of("gather"):
            torch.distributed.all_reduce(added)
    return added


def of_first(number: int) -> int:
    """The number that the first rank has; every rank calls this."""
    on_gpu = torch.distributed.is_initialized() and torch.distributed.get_backend() == "nccl"
    return int(gather(torch.tensor([number], device="cuda" if on_gpu else "cpu"))[0])


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, tensor: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
        context.counts = counts
        # Collectives want equal shapes, while ranks may differ in rows; and gloo knows few types, but bytes are bytes.
        padded = tensor.new_zeros((max(counts), *tensor.shape[1:]))
        padded[: len(tensor)] = tensor
        parts = [torch.empty_like(padded) for _ in counts]
        torch.distributed.all_gather([part.view(torch.uint8) for part in parts], padded.view(torch.uint8))
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        total = gradients[0].contiguous().clone()
        with WAITED.of("gather"):
            torch.distributed.all_reduce(total)
        return torch.split(total, context.counts)[rank()], None
