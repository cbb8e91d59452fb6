"""What a role asks of the cluster, and what settings of old become."""

from pathlib import Path
from typing import Any

import pytest

from uldscale.config import load
from uldscale.errors import ConfigError
from uldscale.job import Job
from uldscale.runtime.roles import Role, RuntimeConfig, Team


def job_with(folder: Path, *overrides: str) -> Job:
    path = folder / "job.yaml"
    path.write_text("name: small\ndata: {kind: faces3d, train: 16}\n")
    return load(Job, str(path), overrides)


def test_a_role_becomes_the_options_of_an_actor() -> None:
    options = Role(cpus=4, gpus=0.5, threads=3, memory_gib=2, node="extract").options()
    assert options["num_cpus"] == 4
    assert options["num_gpus"] == 0.5
    assert options["memory"] == 2 * 2**30
    assert options["label_selector"] == {"uldscale.role": "extract"}
    assert options["runtime_env"]["env_vars"]["OMP_NUM_THREADS"] == "3"
    assert "CUDA_VISIBLE_DEVICES" not in options["runtime_env"]["env_vars"]


def test_without_labels_and_gpus_a_role_asks_for_no_place_and_sees_no_gpu() -> None:
    options = Role().options()
    assert (options["label_selector"], options["memory"]) == (None, None)
    assert options["runtime_env"]["env_vars"]["CUDA_VISIBLE_DEVICES"] == ""


def test_one_setting_of_a_role_leaves_its_others(tmp_path: Path) -> None:
    runtime = job_with(tmp_path, "runtime.train.gpus=1", "runtime.locate.gpus=1").runtime
    assert (runtime.train.gpus, runtime.train.cpus, runtime.train.threads) == (1, 2, 2)
    assert runtime.locate == Team(gpus=1)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("actors", "extract.count"),
        ("gpus_per_actor", "extract.gpus"),
        ("workers", "train.count"),
        ("gpus_for_clustering", "relabel.gpus"),
    ],
)
def test_a_name_of_old_is_told_the_new_one(old: str, new: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"runtime.{old} is now runtime.{new}"):
        job_with(tmp_path, f"runtime.{old}=2")


@pytest.mark.parametrize("gpus", [0.5, 2])
def test_a_training_worker_has_one_gpu_or_none(gpus: float, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"runtime.train.*gpus"):
        job_with(tmp_path, f"runtime.train.gpus={gpus}")


def test_roles_that_are_there() -> None:
    assert list(RuntimeConfig().roles) == ["extract", "train", "relabel"]
    wide: dict[str, Any] = {"locate": {"count": 4}}
    assert list(RuntimeConfig.model_validate(wide).roles) == ["extract", "train", "relabel", "locate"]
