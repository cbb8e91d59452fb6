"""The verb `extract` around a worker in this process: what it says of what its worker met."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from uldscale.data.index import DataConfig, ImageIndex
from uldscale.job import Job
from uldscale.runs import RunFolder
from uldscale.stages.extract import extract
from uldscale.stages.shard_worker import ShardWorker


def with_little_memory(setup: Callable[[ShardWorker], None]) -> Callable[[ShardWorker], None]:
    def wrapped(worker: ShardWorker) -> None:
        setup(worker)
        worker._extractor.backbone.unet.register_forward_pre_hook(short)

    return wrapped


def short(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    if len(inputs[0]) > 2:
        raise torch.OutOfMemoryError("no memory")


def test_a_batch_that_was_halved_is_told_once(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings["extract"]["features"]["codec"] = {"kind": "none"}
    job = Job.model_validate(settings)
    monkeypatch.setattr(ShardWorker, "setup", with_little_memory(ShardWorker.setup))
    run = RunFolder(str(tmp_path / "run"))
    index = ImageIndex.build(DataConfig(kind="faces3d", train=9, size=64))
    index.write(run.index)
    store = extract(job.extract, index, 64, run, job.runtime)
    assert store.spec.num_shards == 2
    told = [line for line in capsys.readouterr().err.splitlines() if "memory" in line]
    assert told == [
        "extract: memory was short, calls of the model now hold 2 maps instead of 8; set extract.features.batch=2 "
        "in a new run to have the same last bits in all shards"
    ]
