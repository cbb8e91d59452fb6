"""The relabel service as a training rank sees it: whose errors come out as what."""

import sys
from pathlib import Path

import numpy as np
import pytest
from ray import cloudpickle
from ray.exceptions import RayTaskError

from uldscale.clustering.two_stage import ClusterConfig
from uldscale.errors import DataError
from uldscale.runs import RunFolder
from uldscale.runtime.cluster import connect
from uldscale.runtime.roles import RuntimeConfig
from uldscale.stages.relabel import RelabelClient, Relabeller, relabel_service
from uldscale.training.description import Keypoints
from uldscale.training.schedule import Stage

NOTHING = Keypoints(
    rows=np.arange(40),
    codes=np.zeros((40, 6), np.float32),
    row=np.zeros(0, np.int64),
    points=np.zeros((0, 2), np.float32),
    scores=np.zeros(0, np.float32),
    descriptors=np.zeros((0, 8), np.float32),
    anchors=None,
)


cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Restarted(Relabeller):
    """Has lost what it was given."""

    def add(self, part: int, keypoints: Keypoints) -> None:
        pass


@pytest.mark.parametrize(("kind", "error"), [(Relabeller, DataError), (Restarted, RayTaskError)])
def test_the_users_turn_is_no_lost_worker(kind: type[Relabeller], error: type[Exception], tmp_path: Path) -> None:
    """Too few keypoints are the user's turn; what Ray reports makes the workers start again, and give theirs once more."""
    runtime = RuntimeConfig()
    connect(runtime)
    relabeller = kind(ClusterConfig(landmarks=3), RunFolder(str(tmp_path)), seed=0, keep_rounds=2, yaw=np.zeros(40))
    with relabel_service(relabeller, kind.__name__, runtime) as service, pytest.raises(error) as raised:
        RelabelClient(service)(Stage.D_ULD, 0, None, NOTHING)
    assert isinstance(raised.value, RayTaskError) == (error is RayTaskError)
