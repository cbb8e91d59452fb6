"""Measures of a run: in which proportions, by which protocols."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from uldscale import files, probes
from uldscale.data.index import DataConfig, ImageIndex
from uldscale.detector_card import write_card
from uldscale.errors import ConfigError
from uldscale.job import Job
from uldscale.pipeline import Pipeline
from uldscale.predictions import Predictions
from uldscale.probes import Probe
from uldscale.stages.evaluate import evaluate
from uldscale.stages.locate import PREDICTIONS, PROBE
from uldscale.stages.truth import Truth

DATA = {"kind": "faces3d", "train": 12, "test": 6, "size": 64}


@pytest.fixture(scope="module")
def index() -> ImageIndex:
    return ImageIndex.build(DataConfig.model_validate(DATA))


def changed(index: ImageIndex, column: str, values: list[Any]) -> ImageIndex:
    place = index.table.schema.get_field_index(column)
    return ImageIndex(index.table.set_column(place, column, pa.array(values, index.table.schema.field(column).type)))


def result_of(index: ImageIndex, folder: Path, **settings: Any) -> dict[str, Any]:
    """That of a method whose landmarks are every seventh annotated point."""
    job = {"name": "x", "output": str(folder), "data": DATA, "evaluate": settings}
    pipeline = Pipeline(Job.model_validate(job))
    index.write(pipeline.run.index)
    ids = [index.row(int(row)).id for row in index.rows()]
    points = index.landmarks(index.rows())[:, ::7]
    Predictions(ids, points, np.zeros(len(ids), np.int64)).write(files.join(pipeline.run.method("other"), PREDICTIONS))
    return evaluate(pipeline.job.evaluate, index, pipeline.run, "x")


def test_errors_are_in_the_proportions_of_the_image(index: ImageIndex) -> None:
    """A crop of a region that is no square is stretched, but a pixel of the image is as long across as down."""
    flat = changed(index, "roi", [[8.0, 0.0, 56.0, 24.0]] * len(index))
    truth = Truth.of(flat)
    assert truth is not None
    pixels = index.landmarks(np.arange(len(index))) * 64
    np.testing.assert_allclose(truth.points, (pixels - [8, 0]) * 128 / 48, rtol=1e-4, atol=1e-3)
    square = Truth.of(index)
    assert square is not None
    assert (square.scale == 128).all()


def test_a_protocol_without_normaliser_is_named_and_the_others_are_measured(index: ImageIndex, tmp_path: Path) -> None:
    points = index.landmarks(np.arange(len(index))) * 64
    points[index.rows("test"), 36] = np.nan
    result = result_of(changed(index, "landmarks", points.reshape(len(index), -1).tolist()), tmp_path)
    usable = ["68pt-300-lids", "68pt-300-box", "68pt-300-lids-ktl", "68pt-300-box-ktl"]
    assert result["without_normaliser"] == ["68pt-300", "5pt-all", "5pt-all-ktl"]
    assert list(result["methods"]["other"]["nme"]) == usable
    assert result["shown"] == usable[:2]
    assert set(result["baselines"]["mean_shape"]) == set(usable)


def test_settings_say_what_is_shown(index: ImageIndex, tmp_path: Path) -> None:
    result = result_of(index, tmp_path / "a", shown=["68pt-300-box"])
    assert result["shown"] == ["68pt-300-box"]
    assert len(result["methods"]["other"]["nme"]) == 7
    with pytest.raises(ConfigError, match="no protocol '9pt-all'; there are 68pt-300, 5pt-all"):
        result_of(index, tmp_path / "b", shown=["9pt-all"])


def test_yaw_that_test_images_lack_comes_from_their_points(
    index: ImageIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uldscale.evaluation.yaw.MIN_IMAGES", 12)
    known = [None if row in index.rows("test") else float(yaw) for row, yaw in enumerate(index.yaw(index.rows()))]
    result = result_of(changed(index, "yaw", known), tmp_path)
    assert result["dataset"]["estimated_yaws"] == 6
    assert sum(part["count"] for part in result["methods"]["other"]["nme_by_yaw"]["bins"]) == 6
    assert result_of(index, tmp_path / "known")["dataset"]["estimated_yaws"] == 0


def test_a_method_that_finds_nothing_is_measured_and_warned_of(index: ImageIndex, tmp_path: Path) -> None:
    pipeline = Pipeline(Job.model_validate({"name": "x", "output": str(tmp_path), "data": DATA}))
    index.write(pipeline.run.index)
    ids, rows = [index.row(row).id for row in range(len(index))], probes.sample(index)
    place, nothing = pipeline.run.method("d_uld_pp"), np.full((len(ids), 4, 2), np.nan, np.float32)
    Predictions(ids, nothing, np.zeros(len(ids), np.int64)).write(files.join(place, PREDICTIONS))
    moves = np.tile(np.eye(3, dtype=np.float32), (len(rows), 1, 1))
    descriptors = np.full((len(rows), 4, 8), np.nan, np.float16)
    Probe(rows, nothing[rows], moves, descriptors).write(files.join(place, PROBE))
    result = evaluate(pipeline.job.evaluate, index, pipeline.run, "x")
    assert result["methods"]["d_uld_pp"]["detection_rate"] == 0
    assert result["methods"]["d_uld_pp"]["consistency_px"] is None
    assert any("no landmark was found" in warning["seen"] for warning in result["warnings"])
    write_card(pipeline.run.model, result, "d_uld_pp")
