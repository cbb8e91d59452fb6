"""The prediction file of another method becomes a method of the run."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uldscale.data.index import DataConfig, ImageIndex
from uldscale.errors import ConfigError, DataError
from uldscale.job import Job
from uldscale.pipeline import Pipeline

DATA = {"kind": "faces3d", "train": 12, "test": 6, "size": 64}


@pytest.fixture(scope="module")
def index() -> ImageIndex:
    return ImageIndex.build(DataConfig.model_validate(DATA))


@pytest.fixture
def pipeline(tmp_path: Path, index: ImageIndex) -> Pipeline:
    pipeline = Pipeline(Job.model_validate({"name": "peers", "output": str(tmp_path / "runs"), "data": DATA}))
    index.write(pipeline.run.index)
    return pipeline


def content(index: ImageIndex, points: Any, unit: str = "pixels") -> dict[str, Any]:
    """A file that has, for every image, what `points` gives for its row."""
    images = {index.row(int(row)).id: points(int(row)) for row in index.rows()}
    return {"name": "imm", "unit": unit, "images": images}


def written(folder: Path, value: Any) -> str:
    path = folder / "imm.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return str(path)


def annotated(index: ImageIndex, row: int) -> list[list[float]]:
    """Ten of the annotated points themselves."""
    landmarks = index.row(row).landmarks
    assert landmarks is not None
    return landmarks[::7].tolist()  # type: ignore[no-any-return]


def test_annotated_points_are_found_without_error(pipeline: Pipeline, index: ImageIndex, tmp_path: Path) -> None:
    """Raw, they are where they are; the regressors, fitted on 12 images, are far better than the mean shape."""
    result = pipeline.score(written(tmp_path, content(index, lambda row: annotated(index, row))))
    measures = result["methods"]["imm"]
    assert list(result["methods"]) == ["imm"]
    assert measures["detection_rate"] == 1
    assert (
        max(measures["nme"]["68pt-300"][way] for way in ("forward", "backward"))
        < result["baselines"]["mean_shape"]["68pt-300"] / 2
    )
    assert max(measures["accuracy"]["per_point"][::7]) == 1
    assert "consistency_px" not in measures
    assert "poses" not in measures


def test_poses_of_a_peer_are_judged(pipeline: Pipeline, index: ImageIndex, tmp_path: Path) -> None:
    told = content(index, lambda row: annotated(index, row))
    told["poses"] = {
        index.row(int(row)).id: int((index.yaw(index.rows())[place] or 0) > 0) for place, row in enumerate(index.rows())
    }
    measures = pipeline.score(written(tmp_path, told))["methods"]["imm"]
    assert 0 < measures["poses"]["purity"] <= 1


def test_what_is_hidden_is_known_to_be(pipeline: Pipeline, index: ImageIndex, tmp_path: Path) -> None:
    """Annotated points whose visibility is the true one, up to a doubt; and no number where it is not given."""
    value = content(index, lambda row: annotated(index, row))
    seen = {index.row(int(row)).id: index.row(int(row)).visible for row in index.rows()}
    value["visibility"] = {id: (0.2 + 0.5 * own[::7]).tolist() for id, own in seen.items() if own is not None}
    assert pipeline.score(written(tmp_path, value))["methods"]["imm"]["visibility_auc"] == 1
    del value["visibility"]
    assert "visibility_auc" not in pipeline.score(written(tmp_path, value))["methods"]["imm"]
    value["visibility"] = {index.row(0).id: [0.5]}
    with pytest.raises(DataError, match="has 1 visibilities, wanted one for each of its 10 landmarks"):
        pipeline.score(written(tmp_path, value))


def test_pixels_and_crop_say_the_same(pipeline: Pipeline, index: ImageIndex, tmp_path: Path) -> None:
    in_pixels = pipeline.score(written(tmp_path, content(index, lambda row: annotated(index, row))))
    box = np.array(index.row(0).roi)
    units = content(
        index, lambda row: ((np.array(annotated(index, row)) - box[:2]) / (box[2:] - box[:2])).tolist(), "crop"
    )
    in_crop = pipeline.score(written(tmp_path, units))
    first, second = (result["methods"]["imm"]["nme"]["68pt-300"]["forward"] for result in (in_pixels, in_crop))
    assert first == pytest.approx(second, rel=1e-4)


def test_a_few_landmarks_far_outside_of_the_crop_are_told(
    pipeline: Pipeline, index: ImageIndex, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    far = [[0.5, 0.5]] * 9 + [[7.0, 0.5]]
    pipeline.score(written(tmp_path, content(index, lambda row: far, "crop")))
    assert "5.0% of them are beyond 1.5" in capsys.readouterr().err


def test_a_missing_landmark(pipeline: Pipeline, index: ImageIndex, tmp_path: Path) -> None:
    half = content(index, lambda row: [None, *annotated(index, row)[1:]])
    measures = pipeline.score(written(tmp_path, half))["methods"]["imm"]
    assert measures["detection_rate"] == pytest.approx(0.9)


def changed(value: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**value, **changes}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: "{", "imm.json is not JSON"),
        (lambda value: [1], "imm.json: "),
        (lambda value: changed(value, name="d_uld"), "name 'd_uld' is that of a method of ours"),
        (lambda value: changed(value, name="../x"), "name"),
        (lambda value: changed(value, unit="metres"), "unit"),
        (lambda value: changed(value, unit="crop"), "but 50.0% of them are beyond 1.5"),
        (lambda value: changed(value, images={**value["images"], "stranger": []}), "1 images are not in the index, such as 'stranger'"),
        (lambda value: changed(value, images=dict(list(value["images"].items())[1:])), "lacks 1 of 18 images"),
        (lambda value: changed(value, images={id: [[1, 2]] * (id[-1] != "3") for id in value["images"]}), "0 landmarks, wanted 1"),
        (lambda value: changed(value, images=dict.fromkeys(value["images"], [])), "0 landmarks, wanted at least 1"),
        (lambda value: changed(value, images=dict.fromkeys(value["images"], [[1]])), "images.face-"),
        (lambda value: changed(value, images=dict.fromkeys(value["images"], [[float("nan"), 1]])), "finite number"),
    ],
)  # fmt: skip
def test_what_a_user_gets_wrong(
    pipeline: Pipeline, index: ImageIndex, tmp_path: Path, change: Any, message: str
) -> None:
    path = written(tmp_path, change(content(index, lambda row: [[1.0, 2.0]])))
    with pytest.raises((DataError, ConfigError)) as raised:
        pipeline.score(path)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 3000
