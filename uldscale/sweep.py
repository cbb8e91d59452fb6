"""The story of a table: D-ULD++ with other numbers of landmarks and poses, on one index and one feature store (paper, Figure 8).

runs/<name>/index.parquet  store.zarr     shared
runs/<name>/k10-q5  k10-q10  …            a run folder for each K and Q; what another has trained already, it does not train again
runs/<name>/sweep.json  sweep.png         forward and backward NME of each; without annotations consistency and silhouette
"""

import math
from itertools import product
from typing import Any

from uldscale import files, labels
from uldscale.config import validate
from uldscale.evaluation.pairs import table_of_pairs
from uldscale.job import Job
from uldscale.pipeline import Pipeline
from uldscale.runs import RunFolder
from uldscale.runtime.screen import screen
from uldscale.stages.truth import Truth
from uldscale.training import checkpoints
from uldscale.training.schedule import Stage, TrainConfig

UNANNOTATED = "consistency in px of 128 (lower is better) / silhouette (higher is better)"
"""What images without annotated points are compared by."""
ADVICE = (
    "the images have no annotated points, so numbers of landmarks are compared by consistency and silhouette; both are best for a few "
    "easy landmarks: take the largest K before they get much worse, and look at the reports"
)


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

        Images without annotated points are compared by UNANNOTATED instead of protocols. Raises ConfigError for a number of landmarks
        or poses that cannot be.
        """
        annotated = Truth.of(self._shared.index()) is not None
        trains = {pair: self._train(*pair) for pair in product(self._landmarks, self._poses)}
        if not annotated:
            screen().say(ADVICE)
        self._shared.require_possible()
        self._shared.extract()
        results = {pair: self._run(*pair, train).run_all() for pair, train in trains.items()}
        methods = {_name(*pair): result["methods"][Stage.D_ULD_PP] for pair, result in results.items()}
        table = _errors(methods) if annotated else {UNANNOTATED: {name: _calm(own) for name, own in methods.items()}}
        files.write_json(files.join(self._shared.run.root, "sweep.json"), files.plain(table))
        files.write_bytes(self.path, self._picture(*next(iter(table.items()))))
        return table

    def _picture(self, measure: str, errors: dict[str, list[float]]) -> bytes:
        rows = [[errors[_name(landmarks, poses)] for landmarks in self._landmarks] for poses in self._poses]
        if measure == UNANNOTATED:
            return table_of_pairs(rows, self._landmarks, self._poses, measure, weights=(1, 0))
        return table_of_pairs(rows, self._landmarks, self._poses, f"forward / backward NME in %, {measure}")

    def _train(self, landmarks: int, poses: int) -> TrainConfig:
        """The settings for K landmarks and Q poses."""
        train = self._shared.job.train.model_dump() | {"mallis_d": None, "control": None}
        if not train["two_steps"]:  # Else it is the first step of D-ULD++.
            train["full_vae"] = None
        clusters = train["clusters"] | {"landmarks": landmarks, "poses": poses}
        return validate(TrainConfig, train | {"clusters": clusters}, _name(landmarks, poses))

    def _run(self, landmarks: int, poses: int, train: TrainConfig) -> Pipeline:
        """The run of K landmarks and Q poses, begun with all that others have trained for it."""
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


def _errors(methods: dict[str, dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """[forward, backward] of each run, by protocol."""
    protocols = next(iter(methods.values()))["nme"]
    return {
        protocol: {
            name: [own["nme"][protocol][way] for way in ("forward", "backward")] for name, own in methods.items()
        }
        for protocol in protocols
    }


def _calm(method: dict[str, Any]) -> list[float]:
    """[consistency in px of 128, silhouette]; NaN where a landmark was never found twice."""
    return [math.nan if method.get(name) is None else method[name] for name in ("consistency_px", "silhouette")]


def _adopt(source: RunFolder, run: RunFolder, stage: Stage) -> None:
    """Copy the end of a stage, with its labels, from a run that has it to one that has not."""
    if source == run or checkpoints.last_of(run.checkpoints, stage):
        return
    found = checkpoints.last_of(source.checkpoints, stage)
    assert found is not None
    if found.round >= 0:
        labels.copy(source.labels, run.labels, found.round)
    checkpoints.copy(source.checkpoints, run.checkpoints, found)
