"""A whole run with DeepSpeed: what is there at the end, and what a second run, Ray and a second worker change."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from uldscale import files
from uldscale.data.faces3d import render
from uldscale.detector import LandmarkDetector
from uldscale.errors import DataError, IncompleteError, ModelError
from uldscale.locks import locked
from uldscale.pipeline import Pipeline
from uldscale.predictions import Predictions
from uldscale.runtime.roles import Team, Workers
from uldscale.stages.inspect_store import print_info, verify
from uldscale.stages.status import print_status

Content = Callable[[str], dict[str, bytes]]
METHODS = ("zero_shot", "d_uld", "d_uld_pose_proxy", "d_uld_pp")


def test_result(whole: Pipeline) -> None:
    result = files.read_json(whole.run.result)
    assert list(result["methods"]) == list(METHODS)
    for measures in result["methods"].values():
        for protocol in ("68pt-300", "5pt-all"):
            assert measures["nme"][protocol]["forward"] > 0
            assert measures["nme"][protocol]["backward"] > 0
        assert 0 < measures["detection_rate"] <= 1
        assert measures["consistency_px"] >= 0
        assert -1 <= measures["silhouette"] <= 1
        assert measures["calinski_harabasz"] > 0
        assert len(measures["accuracy"]["per_point"]) == 68
        assert sum(part["count"] for part in measures["nme_by_yaw"]["bins"]) == 8
    assert 0.2 <= result["methods"]["d_uld_pp"]["pose_purity"] <= 1
    assert result["methods"]["d_uld"]["clusters"] == 3 <= result["methods"]["d_uld_pp"]["clusters"] <= 6
    assert result["methods"]["d_uld"]["clusters_silhouette"] == result["methods"]["d_uld"]["silhouette"]
    assert [len(result["methods"][method].get("churn", [])) for method in METHODS] == [0, 2, 1, 3]
    assert result["baselines"]["mean_shape"]["68pt-300"] > 0
    drawn = {"68pt-300", "68pt-300-lids", "68pt-300-box", "68pt-300-lids-ktl", "68pt-300-box-ktl"}
    assert set(result["methods"]["d_uld"]["nme"]) == drawn | {"5pt-all", "5pt-all-ktl"}
    assert set(result["seconds"]) == {"index", "extract", "zero_shot", "train", "evaluate"}
    assert result["dataset"]["test_images"] == 8


def test_report_shows_every_method(whole: Pipeline) -> None:
    page = files.read_bytes(whole.run.report).decode()
    for words in ("ZeroShot", "D-ULD", "D-ULD + pose proxy", "D-ULD++", "mean shape", "Poses", "Losses"):
        assert words in page
    # Purity by range at the end and by round, two protocols and errors by yaw in both directions, raw accuracy, churn, losses by stage.
    assert page.count('<figure class="chart">') == 2 + 4 + 2 + 1 + 1 + 4
    assert [0 < event["pose_purity"] <= 1 for event in whole.run.rounds("d_uld_pp")] == [True] * 3


def test_warnings_are_those_of_settings_labels_and_landmarks(whole: Pipeline) -> None:
    assert files.names(whole.run.warnings) == ["labels.json", "landmarks.json", "schedule.json"]
    logged = [event["name"] for event in whole.run.read_metrics() if event["event"] == "warning"]
    # 40 images are few; no stage has more than ten epochs.
    assert logged.count("few_images") == 1
    assert "many_epochs" not in logged
    told = [symptom["name"] for symptom in files.read_json(whole.run.result)["warnings"]]
    assert "few_images" in told
    assert set(told) <= set(logged)


def test_second_run_does_nothing(whole: Pipeline, content: Content) -> None:
    before = content(whole.run.store) | content(whole.run.methods) | content(whole.run.labels)
    again = Pipeline(whole.job)
    again.run_all()
    assert content(again.run.store) | content(again.run.methods) | content(again.run.labels) == before


@pytest.mark.parametrize("step", [Pipeline.extract, Pipeline.train])
def test_extraction_and_training_have_the_run_for_themselves(
    whole: Pipeline, step: Callable[[Pipeline], object]
) -> None:
    with locked(whole.run.root), pytest.raises(IncompleteError, match="another process is at work on"):
        step(whole)


def test_landmarks_stay_inside_the_border(whole: Pipeline) -> None:
    for method in METHODS:
        points = Predictions.read(files.join(whole.run.method(method), "predictions.parquet")).points
        known = points[np.isfinite(points).all(-1)]
        # Half a cell of a 16 grid: the sub-pixel step may leave the cell's centre.
        assert ((known > 0.1 - 1 / 32) & (known < 0.9 + 1 / 32)).all()


@pytest.mark.cluster
def test_two_workers_are_one(whole: Pipeline, content: Content, tmp_path: Path) -> None:
    """Extraction with two actors gives the same bytes; training with two workers the same losses within float tolerance."""
    runtime = whole.job.runtime.updated(ray=True, extract=Team(count=2), train=Workers(count=2, threads=1))
    # No longer than what is compared: the learning rate falls in the last fifth of a stage.
    short = whole.job.train.updated(bootstrap={"steps": 5, "learning_rate": 1e-4}, checkpoint_every=100)
    two = Pipeline(whole.job.updated(output=str(tmp_path), train=short.model_dump(), runtime=runtime.model_dump()))
    two.extract()
    assert content(two.run.store) == content(whole.run.store)
    two.train()
    # Later stages start from labels, in which a rounding error may swap two exemplars; tests/training has their gradients.
    assert losses(two) == pytest.approx(losses(whole), rel=1e-4)


def losses(pipeline: Pipeline) -> dict[str, float]:
    """Losses of the first steps of the bootstrap, since rounding errors grow."""
    events = [event for event in pipeline.run.read_metrics() if event["event"] == "step"]
    return {f"{event['stage']} {event['step']}": event["loss"] for event in events[:4]}


def test_weights_of_model_are_those_of_the_last_method(whole: Pipeline) -> None:
    ours, theirs = (
        safetensors.torch.load(files.read_bytes(files.join(folder, "network.safetensors")))
        for folder in (whole.run.model, whole.run.method(METHODS[-1]))
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in ours | theirs)


def test_the_card_of_the_model_has_the_numbers_of_the_result(whole: Pipeline) -> None:
    card = files.read_bytes(files.join(whole.run.model, "README.md")).decode()
    error = files.read_json(whole.run.result)["methods"]["d_uld_pp"]["nme"]["68pt-300"]["forward"]
    assert f"value: {round(error, 4)}" in card


def test_a_model_is_found_from_any_folder(
    whole: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: str
) -> None:
    """Its diffusion model is named from the root of the file system, and may have moved."""
    assert LandmarkDetector.from_pretrained(whole.run.model).config.features.backbone.model == tiny_model
    monkeypatch.chdir(Path(tiny_model).parent)
    features = whole.job.extract.features
    near = features.backbone.updated(model=Path(tiny_model).name).anchored()
    assert (near.model, near.updated(model="tiny-ldm").anchored().model) == (tiny_model, "tiny-ldm")
    moved = str(tmp_path / "moved")
    shutil.copytree(tiny_model, moved)
    images = [render(5_000_000, size=64).image]
    found = [
        LandmarkDetector.from_pretrained(whole.run.model, backbone=backbone)(images).points
        for backbone in (None, moved)
    ]
    np.testing.assert_array_equal(*found)
    with pytest.raises(ModelError, match="give the one that it was trained on"):
        LandmarkDetector.from_pretrained(whole.run.model, backbone="tiny-ldm")(images)


def test_the_order_of_images_leaves_no_trace(whole: Pipeline) -> None:
    """Also where each image has noise of its own."""
    detector = LandmarkDetector.from_pretrained(whole.run.model)
    assert detector.config.features.noise == "image"
    images = [render(seed, size=64).image for seed in range(5_000_000, 5_000_003)]
    there, back = detector(images).scores, detector(images[::-1]).scores[::-1]
    np.testing.assert_allclose(there, back, atol=1e-5)
    with pytest.raises(DataError, match="no image is given"):
        detector([])
    boxes = np.array([[0, 0, 64, 64]] * 3)
    np.testing.assert_allclose(detector(images, boxes).scores, there, atol=1e-5)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="nowhere.png: the file is not there"):
        detector(["nowhere.png"])


def test_status_reads_files_only(whole: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    print_status(whole.run.root)
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["extract"] == "48 of 48 shards"
    assert [lines[stage.value] for stage in whole.job.train.stages] == ["40 of 40 steps"] + ["4 of 4 steps"] * 3
    assert lines["evaluate"] == "done"


def test_store_verbs(whole: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    verify(whole.run.store, repair=False)
    assert capsys.readouterr().out == "48 of 48 committed shards are good, 0 are missing\n"
    print_info(whole.run.store)
    assert json.loads(capsys.readouterr().out)["shards"] == 48


def test_codec_quality_is_told(whole: Pipeline) -> None:
    told = [event for event in whole.run.read_metrics() if event["event"] == "codec"]
    assert len(told) == 4
    assert all(0 < event["error"] < 1 and event["explained"] <= 1 for event in told)
