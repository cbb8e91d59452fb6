"""Engines that turn losses into weights: DeepSpeed, and plain torch.

Laws: gradients are averaged over the ranks; n steps, save, load and m steps are n + m steps, also by another engine or
on another number of ranks.
"""

import logging
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

import safetensors.torch
import torch
import torch.distributed
from pydantic import Field
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from uldscale import files
from uldscale.config import Settings
from uldscale.errors import ModelError
from uldscale.runtime.ranks import rank, world_size

BETAS = (0.9, 0.999)
MOMENTS = ("exp_avg", "exp_avg_sq")
CHECKPOINT = "engine.safetensors"


class EngineConfig(Settings):
    """How gradients become steps."""

    kind: Literal["deepspeed", "ddp"] = "deepspeed"
    """DeepSpeed, or torch's DistributedDataParallel."""
    zero: Literal[0, 1] = 0
    """ZeRO stage of DeepSpeed; 1 splits the optimizer's memory over the ranks."""
    bf16: bool = False
    """Run the forward pass in bfloat16 where torch thinks it safe; weights stay float32."""
    gradient_clip: float = Field(default=1.0, gt=0)
    """Largest norm of the gradient of all weights."""


@dataclass(frozen=True)
class Rate:
    """Learning rate by step: a linear rise, a plateau, and a linear fall towards 0 at the end."""

    peak: float
    warmup_steps: int
    steps: int
    """Of the whole run."""
    cooldown_steps: int

    def __call__(self, step: int) -> float:
        """Rate of a step, counted from 0."""
        rise = (step + 1) / max(1, self.warmup_steps)
        fall = (self.steps - step) / (self.cooldown_steps + 1)
        return self.peak * min(1.0, rise, fall)


class Engine(ABC):
    """A module with Adam (betas 0.9 and 0.999).

    Only parameters that require gradients now are trained; one that a step's loss doesn't reach has gradient 0.
    Every rank makes all calls. Call the engine once a step: all that has a gradient happens in the module's forward.
    """

    def __init__(self, module: nn.Module, rate: Rate) -> None:
        self.module = module
        self.device = next(module.parameters()).device
        self.steps = 0
        """Optimizer steps done."""
        self.gradient_norm: float | Tensor = 0.0
        """Of all weights in the last step, before it was clipped; a tensor where reading it would wait for a GPU."""
        self.checkpoint_bytes = 0
        """Size of the last checkpoint, on the first rank."""
        self._rate = rate
        self._trained = {name: weight for name, weight in self.module.named_parameters() if weight.requires_grad}
        self._optimizer = torch.optim.Adam(self._trained.values(), rate.peak, BETAS)

    @abstractmethod
    def __call__(self, *args: Any) -> Any:
        """What the module gives for a batch."""

    def step(self, loss: Tensor) -> None:
        """One optimizer step; `loss` is the mean over this rank's share of the batch."""
        self._advance(loss, self._rate(self.steps))
        self.steps += 1

    def save(self, folder: str) -> None:
        """Write weights and optimizer to `folder`/engine.safetensors."""
        moments = {
            f"{moment}/{name}": self._moment(weight, moment)
            for moment in MOMENTS
            for name, weight in self._trained.items()
        }
        if rank() == 0:
            weights = {f"module/{name}": value for name, value in self.module.state_dict().items()}
            tensors = {"steps": torch.tensor(self.steps)} | weights | moments
            plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
            content = safetensors.torch.save(plain)
            self.checkpoint_bytes = len(content)
            files.write_bytes(files.join(folder, CHECKPOINT), content)

    def load(self, folder: str) -> None:
        """Go back to what `save` wrote. Raises ModelError when it is not there or belongs to another module."""
        tensors = _read(folder)
        expected = {f"module/{name}" for name in self.module.state_dict()}
        expected |= {f"{moment}/{name}" for moment in MOMENTS for name in self._trained} | {"steps"}
        if wrong := sorted(expected ^ tensors.keys()):
            raise ModelError(
                f"{files.join(folder, CHECKPOINT)} is the checkpoint of another network or stage: {wrong[0]!r} and "
                f"{len(wrong) - 1} more tensors are in only one of them; go on with the settings that wrote it, or "
                "start a new run"
            )
        self.steps = int(tensors["steps"])
        self.module.load_state_dict(_weights(tensors))
        self._restore({name: {moment: tensors[f"{moment}/{name}"] for moment in MOMENTS} for name in self._trained})

    @abstractmethod
    def _advance(self, loss: Tensor, learning_rate: float) -> None:
        """Backward pass and Adam step."""

    def _moment(self, weight: nn.Parameter, moment: str) -> Tensor:
        """A moment of Adam, whole; every rank calls this."""
        whole: Tensor = self._optimizer.state[weight].get(moment, torch.zeros_like(weight))
        return whole

    def _restore(self, moments: dict[str, dict[str, Tensor]]) -> None:
        """Put moments and step count back into the optimizer."""
        for name, weight in self._trained.items():
            values = {moment: value.to(weight.device) for moment, value in moments[name].items()}
            self._optimizer.state[weight] = {"step": torch.tensor(float(self.steps)), **values}


class TorchEngine(Engine):
    """Plain torch: the reference, and the engine where DeepSpeed is not wanted."""

    def __init__(self, module: nn.Module, config: EngineConfig, rate: Rate) -> None:
        super().__init__(module, rate)
        self._config = config
        self._forward = self.module
        if world_size() > 1:
            self._forward = DistributedDataParallel(self.module, find_unused_parameters=True, broadcast_buffers=False)

    def __call__(self, *args: Any) -> Any:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._config.bf16):
            return self._forward(*args)

    def _advance(self, loss: Tensor, learning_rate: float) -> None:
        torch.autograd.backward(loss)
        for weight in self._trained.values():
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        self.gradient_norm = nn.utils.clip_grad_norm_(self._trained.values(), self._config.gradient_clip)
        self._optimizer.param_groups[0]["lr"] = learning_rate
        self._optimizer.step()
        self._optimizer.zero_grad()


class DeepSpeedEngine(Engine):
    """DeepSpeed with ZeRO 0 or 1, without any of its compiled operators."""

    def __init__(self, module: nn.Module, config: EngineConfig, rate: Rate) -> None:
        super().__init__(module, rate)
        self._sharded = config.zero > 0
        deepspeed = _deepspeed(self.device)
        # One bucket as large as the module: the default one takes two gigabytes.
        bucket = sum(weight.numel() for weight in self._trained.values())
        settings = {
            "train_micro_batch_size_per_gpu": 1,
            "gradient_clipping": config.gradient_clip,
            "zero_optimization": {"stage": config.zero, "reduce_bucket_size": bucket},
            "zero_allow_untested_optimizer": True,
            "torch_autocast": {"enabled": config.bf16, "dtype": "bfloat16"},
        }
        self._engine, *_ = deepspeed.initialize(model=self.module, optimizer=self._optimizer, config=settings)

    def __call__(self, *args: Any) -> Any:
        return self._engine(*args)

    def _advance(self, loss: Tensor, learning_rate: float) -> None:
        self._engine.optimizer.param_groups[0]["lr"] = learning_rate
        self._engine.backward(loss)
        if not self._sharded:
            # DeepSpeed keeps no norm where it has no optimizer of its own.
            gradients = [weight.grad for weight in self._trained.values() if weight.grad is not None]
            self.gradient_norm = nn.utils.get_total_norm(gradients)
        self._engine.step()
        if self._sharded:
            self.gradient_norm = self._engine.get_global_grad_norm()

    def _moment(self, weight: nn.Parameter, moment: str) -> Tensor:
        if not self._sharded or self.steps == 0:
            return super()._moment(weight, moment)
        from deepspeed.utils import safe_get_full_optimizer_state

        whole: Tensor = safe_get_full_optimizer_state(weight, moment)
        return whole

    def _restore(self, moments: dict[str, dict[str, Tensor]]) -> None:
        if not self._sharded:
            super()._restore(moments)
            return
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

        # Shards of the state come into being with a first step; all that it changes at rate 0 is overwritten here.
        weights = {name: weight.detach().clone() for name, weight in self._trained.items()}
        self._advance(torch.stack([weight.sum() for weight in self._trained.values()]).sum() * 0, 0.0)
        for name, weight in self._trained.items():
            weight.data.copy_(weights[name])
            safe_set_full_fp32_param(weight, weights[name])
            for moment, value in moments[name].items():
                safe_set_full_optimizer_state(weight, value.to(weight.device), moment)
        for state in self._engine.optimizer.state.values():
            state["step"].fill_(self.steps)


def make_engine(module: nn.Module, config: EngineConfig, rate: Rate) -> Engine:
    """The engine that the settings ask for, on the device of the module."""
    kind = {"deepspeed": DeepSpeedEngine, "ddp": TorchEngine}[config.kind]
    return kind(module, config, rate)


def read_weights(folder: str) -> dict[str, Tensor]:
    """State dict of the module that an engine saved to `folder`. Raises ModelError when it is not there."""
    return _weights(_read(folder))


def _read(folder: str) -> dict[str, Tensor]:
    path = files.join(folder, CHECKPOINT)
    if not files.exists(path):
        raise ModelError(f"{path} is not there; give the folder of a checkpoint")
    return safetensors.torch.load(files.read_bytes(path))


def _weights(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("module/"): value for name, value in tensors.items() if name.startswith("module/")}


def _deepspeed(device: torch.device) -> Any:
    """DeepSpeed, made ready for a process that its launcher did not start."""
    os.environ.setdefault("DS_ACCELERATOR", device.type)
    os.environ.setdefault("LOCAL_RANK", "0")
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    import deepspeed

    # Used in inference only, yet built at every start: more than a minute of compiler time, an error without ninja.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    if not torch.distributed.is_initialized():
        backend = "gloo" if device.type == "cpu" else "nccl"
        alone = torch.distributed.HashStore()  # type: ignore[attr-defined]
        torch.distributed.init_process_group(backend, store=alone, rank=0, world_size=1)
    return deepspeed
