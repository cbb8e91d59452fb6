"""D-ULD++ with other numbers of landmarks and poses, on one store."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from uldscale import files
from uldscale.errors import ConfigError
from uldscale.job import Job
from uldscale.labels import Labels
from uldscale.runs import RunFolder
from uldscale.sweep import UNANNOTATED, Sweep
from uldscale.training.schedule import Stage


def stages_trained(run: RunFolder) -> set[str]:
    return {event["stage"] for event in run.read_metrics() if event["event"] == "step"}


def test_what_is_trained_once_is_trained_once(settings: dict[str, Any]) -> None:
    job = Job.model_validate(settings)
    assert set(Sweep(job, [3], [2, 1]).run_all()["68pt-300"]) == {"k3-q1", "k3-q2"}
    table = Sweep(job, [4, 3], [2]).run_all()
    assert set(table["68pt-300"]) == {"k3-q2", "k4-q2"}
    root = Path(job.root)
    assert [path.name for path in root.glob("**/store.zarr")] == ["store.zarr"]
    assert files.read_json(str(root / "sweep.json")) == table
    assert (root / "sweep.png").read_bytes().startswith(b"\x89PNG")
    runs = {name: RunFolder(str(root / name)) for name in ("k3-q1", "k3-q2", "k4-q2")}
    everything = {Stage.BOOTSTRAP, Stage.D_ULD, Stage.POSE_PROXY, Stage.D_ULD_PP}
    assert stages_trained(runs["k3-q1"]) == everything
    assert stages_trained(runs["k3-q2"]) == {Stage.D_ULD_PP}
    assert stages_trained(runs["k4-q2"]) == everything - {Stage.BOOTSTRAP}
    for name, run in runs.items():
        fitted = Labels.open(run.labels).labelling
        assert name == f"k{fitted['clusters/centroids'].shape[1]}-q{len(fitted['clusters/pose_centroids'])}"


def test_without_annotated_points_consistency_is_compared(
    settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3), np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    settings["data"] = {"kind": "folder", "train": str(tmp_path), "size": 64}
    sweep = Sweep(Job.model_validate(settings), [3, 4], [2])
    table = sweep.run_all()
    assert "the images have no annotated points" in capsys.readouterr().err
    assert list(table) == [UNANNOTATED]
    results = {name: files.read_json(f"{Path(sweep.path).parent}/{name}/result.json") for name in ("k3-q2", "k4-q2")}
    measures = {name: result["methods"]["d_uld_pp"] for name, result in results.items()}
    known = {name: [own["consistency_px"], own["silhouette"]] for name, own in measures.items()}
    assert files.plain(table[UNANNOTATED]) == known
    assert Path(sweep.path).read_bytes().startswith(b"\x89PNG")


def test_two_steps_keep_the_first_one(settings: dict[str, Any]) -> None:
    settings["train"] |= {"two_steps": True, "full_vae": {"steps": 2, "learning_rate": 1e-3, "relabel_every": 2}}
    assert Sweep(Job.model_validate(settings), [3], [2])._train(3, 2).full_vae is not None


def test_numbers_that_cannot_be_are_told_before_anything_is_computed(settings: dict[str, Any]) -> None:
    job = Job.model_validate(settings)
    with pytest.raises(ConfigError, match=r"k400-q2: .*landmarks=400 is more than the 64 keypoints"):
        Sweep(job, [3, 400], [2]).run_all()
    assert not files.exists(f"{job.root}/store.zarr")
