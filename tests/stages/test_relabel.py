"""The relabel service as a training rank sees it: whose errors come out as what, and what a restart costs."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from ray import cloudpickle

from uldscale.clustering.two_stage import ClusterConfig
from uldscale.errors import DataError
from uldscale.runs import RunFolder
from uldscale.runtime.cluster import connect
from uldscale.runtime.roles import RuntimeConfig
from uldscale.stages.relabel import RelabelClient, Relabeller, relabel_service
from uldscale.training.description import Keypoints
from uldscale.training.schedule import Stage

cloudpickle.register_pickle_by_value(sys.modules[__name__])


def keypoints(count: int) -> Keypoints:
    """So many on each of 40 images."""
    random, rows = np.random.default_rng(0), np.arange(40)
    return Keypoints(
        rows=rows,
        codes=np.zeros((40, 6), np.float32),
        row=np.repeat(rows, count),
        points=random.random((40 * count, 2), np.float32),
        scores=np.ones(40 * count, np.float32),
        descriptors=random.random((40 * count, 8), np.float32).astype(np.float16),
        places=np.zeros((40, 0, 2), np.float32),
        poses=np.full(40, -1),
        anchors=None,
    )


@pytest.fixture
def relabeller(tmp_path: Path) -> Relabeller:
    return Relabeller(ClusterConfig(landmarks=3), RunFolder(str(tmp_path)), seed=0)


@pytest.fixture
def runtime() -> RuntimeConfig:
    runtime = RuntimeConfig()
    connect(runtime)
    return runtime


def test_the_users_turn_is_no_lost_worker(relabeller: Relabeller, runtime: RuntimeConfig, tmp_path: Path) -> None:
    with relabel_service(relabeller, "few", runtime) as service, pytest.raises(DataError, match="0 keypoints"):
        RelabelClient(service, RunFolder(str(tmp_path)).labels)(Stage.D_ULD, 0, None, keypoints(0))()


class DiesOnce(Relabeller):
    """In the middle of a round, with all that it was given."""

    def make(self, stage: Stage, number: int, previous: int | None, parts: int) -> bool:
        if not os.path.exists(f"{self._run.root}/died"):
            os.makedirs(f"{self._run.root}/died")
            os._exit(1)
        return super().make(stage, number, previous, parts)


@pytest.mark.cluster
def test_a_restarted_service_fits_the_same(relabeller: Relabeller, runtime: RuntimeConfig, tmp_path: Path) -> None:
    wanted = relabeller(Stage.D_ULD, 0, None, keypoints(5))().arrays()
    dying = DiesOnce(ClusterConfig(landmarks=3), RunFolder(str(tmp_path / "dying")), seed=0)
    with relabel_service(dying, "dying", runtime) as service:
        client = RelabelClient(service, RunFolder(str(tmp_path / "dying")).labels)
        fitted = client(Stage.D_ULD, 0, None, keypoints(5))()
    assert (tmp_path / "dying/died").exists()
    for name, values in fitted.arrays().items():
        np.testing.assert_array_equal(values, wanted[name])
