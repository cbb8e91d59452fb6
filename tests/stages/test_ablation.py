"""All systems of the paper over several seeds, on one store."""

import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from uldscale import files
from uldscale.ablation import Ablation, print_table, spread
from uldscale.errors import DataError
from uldscale.job import Job
from uldscale.stages.evaluate import METHODS


def result(forward: float, **more: float) -> dict[str, Any]:
    measures = {"nme": {"5pt-all": {"forward": forward, "protocol": "5pt-all"}}, **more}
    return {"methods": {"d_uld": measures}, "baselines": {"mean_shape": {"5pt-all": 20.0}}}


def test_mean_and_spread() -> None:
    table = spread([result(5.0, silhouette=0.5), result(7.0)])
    assert table["methods"]["d_uld"] == {
        "nme.5pt-all.forward": {"mean": 6.0, "std": pytest.approx(2**0.5), "values": [5.0, 7.0]},
        "silhouette": {"mean": 0.5, "std": 0.0, "values": [0.5, None]},
    }
    assert table["baselines"] == {"mean_shape": {"5pt-all": 20.0}}


@pytest.mark.parametrize("seeds", [1, 2])
def test_one_seed_has_no_spread(seeds: int, capsys: pytest.CaptureFixture[str]) -> None:
    print_table({"seeds": seeds, "shown": ["5pt-all"], **spread([result(5.0)] * seeds)})
    assert ("±" in capsys.readouterr().out) == (seeds > 1)


def test_the_table_has_room_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = ["68pt-300-box", "68pt-300"]
    both = {"forward": 12.34, "backward": 43.21}
    ours = {name: {direction: {"mean": -0.125} for direction in both} for name in shown}
    measures = {"nme": dict.fromkeys(shown, both), "detection_rate": 0.5, "pose_purity": 0.75}
    methods = {"control": measures, "d_uld_pp": {**measures, "against": {"control": ours}}}
    print_table({"seeds": 2, "shown": shown, **spread([{"methods": methods, "baselines": {}}] * 2)})
    said = capsys.readouterr().out
    assert "…" not in said
    assert all(said.count(f"{number} ± 0.00") == count for number, count in (("12.34", 4), ("43.21", 4), ("0.75", 2)))
    assert said.count("-0.12 ± 0.00") == 4


def test_a_second_seed(settings: dict[str, Any]) -> None:
    """It leaves what the first one trained as it is, and differs from it; one process offers the metrics of all."""
    stage = {"steps": 2, "learning_rate": 1e-3, "relabel_every": 2}
    settings["train"] |= {"full_vae": stage, "mallis_d": stage, "control": stage}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        settings["runtime"]["metrics_port"] = free.getsockname()[1]
    job = Job.model_validate(settings)
    root = Path(job.root)
    Ablation(job, 1).run_all()
    before = times_of_methods(root)
    table = Ablation(job, 2).run_all()
    assert before.items() <= times_of_methods(root).items()
    assert set(table["methods"]) == set(METHODS)
    for numbers in table["methods"].values():
        first, second = numbers["nme.68pt-300.forward"]["values"]
        assert first != second
    assert [path.name for path in sorted(root.glob("**/store.zarr"))] == ["store.zarr"]
    assert files.read_json(str(root / "ablation.json")) == table


def test_images_that_come_between_two_seeds(settings: dict[str, Any], tmp_path: Path) -> None:
    """The store has the rows of the index, and all seeds stay with both."""
    pictures = np.random.default_rng(0).integers(0, 256, (17, 64, 64, 3), np.uint8)
    for number, pixels in enumerate(pictures[:16]):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    settings["data"] = {"kind": "folder", "train": str(tmp_path), "size": 64}
    job = Job.model_validate({**settings, "output": str(tmp_path / "runs")})
    Ablation(job, 1).run_all()
    Image.fromarray(pictures[16]).save(tmp_path / "new.png")
    assert Ablation(job, 2).run_all()["dataset"]["train_images"] == 16


def test_what_cannot_be_trained_is_told_before_anything_is_computed(settings: dict[str, Any]) -> None:
    settings["train"]["batch"] = 50
    job = Job.model_validate(settings)
    with pytest.raises(DataError, match="16 usable training images"):
        Ablation(job, 2).run_all()
    assert not Path(job.root, "store.zarr").exists()


def times_of_methods(root: Path) -> dict[Path, int]:
    """When each detector was written, ns."""
    return {path: path.stat().st_mtime_ns for path in root.glob("seed-*/methods/*/config.json")}
