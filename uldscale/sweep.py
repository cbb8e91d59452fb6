"""The story of a table: D-ULD++ with other numbers of landmarks and poses, on one index and one feature store (paper, Figure 8).

runs/<name>/index.parquet  store.zarr     shared
runs/<name>/k10-q5  k10-q10  …            a run folder for each K and Q; what another has trained already, it does not train again
runs/<name>/sweep.json  sweep.png         forward and backward NME of each
"""

from itertools import product
from typing import Any

from uldscale import files, labels
from uldscale.errors import DataError
from uldscale.evaluation.pairs import table_of_pairs
from uldscale.job import Job
from uldscale.pipeline import Pipeline
from uldscale.runs import RunFolder
from uldscale.stages.truth import Truth
from uldscale.training import checkpoints
from uldscale.training.schedule import Stage


class Sweep:
    """The runs of a job with each of some numbers of landmarks and of poses."""

    def __init__(self, job: Job, landmarks: list[int], poses: list[int]) -> None:
        self._shared = Pipeline(job)
        self._landmarks, self._poses = sorted(set(landmarks)), sorted(set(poses))

    @property
    def path(self) -> str:
        """The picture, PNG."""
        return files.join(self._shared.run.root, "sweep.png")

    def run_all(self) -> dict[str, Any]:
        """Do what is missing of all runs; writes picture and numbers, by protocol {"k10-q5": [forward, backward]}, and returns them.

        Raises DataError for images without annotated points.
        """
        if Truth.of(self._shared.index()) is None:
            raise DataError("a sweep compares NMEs, but the images have no annotated points; sweep over annotated ones")
        self._shared.extract()
        results = {pair: self._run(*pair).run_all() for pair in product(self._landmarks, self._poses)}
        errors = {pair: result["methods"][Stage.D_ULD_PP]["nme"] for pair, result in results.items()}
        table = {
            protocol: {_name(*pair): _forward_backward(error[protocol]) for pair, error in errors.items()}
            for protocol in next(iter(errors.values()))
        }
        files.write_json(files.join(self._shared.run.root, "sweep.json"), table)
        files.write_bytes(self.path, self._picture(*next(iter(table.items()))))
        return table

    def _picture(self, protocol: str, errors: dict[str, list[float]]) -> bytes:
        rows = [[errors[_name(landmarks, poses)] for landmarks in self._landmarks] for poses in self._poses]
        return table_of_pairs(rows, self._landmarks, self._poses, protocol)

    def _run(self, landmarks: int, poses: int) -> Pipeline:
        """The run of K landmarks and Q poses, begun with all that others have trained for it."""
        job = self._shared.job
        clusters = job.train.clusters.updated(landmarks=landmarks, poses=poses)
        train = job.train.updated(clusters=clusters, full_vae=None, mallis_d=None, control=None)
        run = self._shared.beside(_name(landmarks, poses), train=train)
        elder, twin = self._folder(self._landmarks[0]), self._folder(landmarks)
        for stage, source in ((Stage.BOOTSTRAP, elder), (Stage.D_ULD, twin), (Stage.POSE_PROXY, twin)):
            _adopt(source, run.run, stage)
        return run

    def _folder(self, landmarks: int) -> RunFolder:
        """The run of K landmarks that is trained first."""
        return RunFolder(files.join(self._shared.run.root, _name(landmarks, self._poses[0])))


def _name(landmarks: int, poses: int) -> str:
    return f"k{landmarks}-q{poses}"


def _forward_backward(error: dict[str, Any]) -> list[float]:
    return [error["forward"], error["backward"]]


def _adopt(source: RunFolder, run: RunFolder, stage: Stage) -> None:
    """Copy the end of a stage, with its labels, from a run that has it to one that has not."""
    if source == run or checkpoints.last_of(run.checkpoints, stage):
        return
    found = checkpoints.last_of(source.checkpoints, stage)
    assert found is not None
    if found.round >= 0:
        labels.copy(source.labels, run.labels, found.round)
    checkpoints.copy(source.checkpoints, run.checkpoints, found)
