"""What seems to be wrong with the landmarks of a run, on the images that methods are judged on; no annotation is read."""

import numpy as np
from numpy.typing import NDArray

from uldscale import files
from uldscale.data.index import ImageIndex
from uldscale.data.roi import RoiConfig
from uldscale.evaluation import background
from uldscale.probes import Probe
from uldscale.runs import RunFolder
from uldscale.stages.locate import PROBE
from uldscale.training import symptoms, warnings
from uldscale.training.warnings import Symptom

BACKGROUND_IMAGES = 48
"""Images of which the background is told."""


def check(index: ImageIndex, run: RunFolder, method: str, points: NDArray[np.float32]) -> list[Symptom]:
    """All warnings of a run whose landmarks (N, K, 2) a method of its own has found by row; those of its training among them."""
    rows, data = index.judged(), run.read_config()["data"]
    found = symptoms.of_places(points[symptoms.spread(rows)], RoiConfig.model_validate(data["roi"]).border)
    probe = files.join(run.method(method), PROBE)
    if files.exists(probe):
        seen = Probe.read(probe)
        found += symptoms.of_moves(points[seen.rows], seen.moved, seen.matrices)
    found += symptoms.of_background(depth_ranks(index, points, data["size"]))
    warnings.tell(run, "landmarks", found)
    return warnings.read(run)


def depth_ranks(index: ImageIndex, points: NDArray[np.float32], size: int) -> NDArray[np.float64]:
    """(n, K) how deep in the object landmarks (N, K, 2) are, on some of the images; see `background.ranks`."""
    some = symptoms.spread(index.judged(), BACKGROUND_IMAGES)
    return np.stack([background.ranks(index.load(int(row), size), points[row]) for row in some])
