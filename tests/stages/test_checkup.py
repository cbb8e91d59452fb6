"""Warnings of a run's landmarks, and where a user meets them."""

from pathlib import Path

import numpy as np
import pytest

from uldscale import files
from uldscale.data.index import DataConfig, ImageIndex
from uldscale.job import Job
from uldscale.pipeline import Pipeline
from uldscale.probes import Probe, sample
from uldscale.stages.checkup import check
from uldscale.stages.locate import PROBE
from uldscale.stages.status import print_status

DATA = {"kind": "faces3d", "train": 2, "test": 24, "size": 64, "roi": {"context": 0.02}}


@pytest.fixture(scope="module")
def index() -> ImageIndex:
    return ImageIndex.build(DataConfig.model_validate(DATA))


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    return Pipeline(Job.model_validate({"name": "x", "output": str(tmp_path), "data": DATA}))


def test_true_points_of_faces_have_none(index: ImageIndex, pipeline: Pipeline) -> None:
    points = index.landmarks(np.arange(len(index)))[:, [17, 26, 36, 45, 30, 48, 54, 8]]
    assert check(index, pipeline.run, "d_uld_pp", points) == []


def test_a_ring_around_the_object_is_told_everywhere(
    index: ImageIndex, pipeline: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    """Corners and sides of the crop: at one place on all images, also on moved ones, and most on the background."""
    ring = np.array([[0.06, 0.06], [0.94, 0.06], [0.06, 0.94], [0.94, 0.94], [0.06, 0.4], [0.94, 0.4]], np.float32)
    points, rows = np.tile(ring, (len(index), 1, 1)), sample(index)
    shift = np.array([[1, 0, 0.03], [0, 1, 0.09], [0, 0, 1]], np.float32)
    probe = Probe(rows, points[rows], np.tile(shift, (len(rows), 1, 1)), np.zeros((len(rows), 6, 4), np.float16))
    probe.write(files.join(pipeline.run.method("d_uld_pp"), PROBE))
    found = check(index, pipeline.run, "d_uld_pp", points)
    assert [symptom.name for symptom in found] == ["still", "static", "background"]
    said = capsys.readouterr().err
    print_status(pipeline.run.root)
    shown = capsys.readouterr().out
    for symptom in found:
        assert f"uldscale: warning: {symptom.seen}; {symptom.remedy}\n" in said
        assert f"warning: {symptom.seen}; {symptom.remedy}\n" in shown
