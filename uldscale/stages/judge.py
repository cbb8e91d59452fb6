"""All measures of one method, from its files and the annotations."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uldscale import files
from uldscale.clustering.two_stage import Clustering
from uldscale.data.index import ImageIndex
from uldscale.evaluation import accuracy, clusters, consistency, nme, visible
from uldscale.probes import Probe
from uldscale.runs import RunFolder
from uldscale.stages import extremes
from uldscale.stages.landmarks import landmarks_of
from uldscale.stages.locate import PROBE
from uldscale.stages.truth import SIDE, Truth
from uldscale.training.schedule import CLUSTERING

Errors = dict[str, nme.NmeResult]
"""Of a method, by protocol."""

_WITH_POSES = {stage.value for stage, kind in CLUSTERING.items() if kind is Clustering.TWO_STAGE}


@dataclass(frozen=True)
class Judge:
    """Calling it with a method's name measures that method; `seed` draws the images on which regressors are fitted."""

    seed: int
    index: ImageIndex
    run: RunFolder
    truth: Truth | None
    protocols: list[nme.Protocol]

    def __call__(self, method: str) -> tuple[dict[str, Any], Errors]:
        """Every measure that the method's files and the annotations allow, and the errors behind it."""
        points, poses, seen = landmarks_of(self.index, self.run, method)
        errors = self._errors(points * self.truth.scale) if self.truth and self.protocols else {}
        measures: dict[str, Any] = {
            "detection_rate": float(nme.detection_rate(points[self.index.judged()]).mean()),
            **self._probed(method, points, poses),
            **(self._measures(points * self.truth.scale, self.truth, errors) if self.truth and errors else {}),
            **(self._poses(poses) if method in _WITH_POSES or poses.any() else {}),
            **(self._seen(seen, points * self.truth.scale, self.truth) if self.truth and seen is not None else {}),
        }
        churn = self._churn(method)
        return measures | ({"churn": churn} if churn else {}), errors

    def yaw(self) -> NDArray[np.floating]:
        """Degrees, of the images that methods are judged on."""
        rows = self.index.judged()
        return self.index.yaw(rows) if self.truth is None else self.truth.yaw[rows]

    def mean_shape(self) -> dict[str, float]:
        """Forward NME of the mean shape by protocol."""
        truth = self.truth
        assert truth is not None
        train, test = truth.points[truth.train], truth.points[truth.test]
        return {protocol.name: nme.mean_shape(train, test, protocol, self.seed) for protocol in self.protocols}

    def _errors(self, points: NDArray[np.float32]) -> Errors:
        assert self.truth is not None
        return nme.evaluate_all(*self.truth.split(points), self.protocols, self.seed)

    def _measures(self, points: NDArray[np.float32], truth: Truth, errors: Errors) -> dict[str, Any]:
        """NME by protocol, that of the first by yaw, and the accuracy of raw landmarks."""
        headline = errors[self.protocols[0].name]
        bins = nme.by_yaw(headline, truth.yaw[truth.test])
        # Not that of whatever protocol is shown first: a fifth of a box is generous.
        hits = accuracy.hungarian_accuracy(*truth.split(points), nme.protocols_for(truth.points.shape[1])[0].normaliser)
        return {
            "nme": {name: result.to_json() for name, result in errors.items()},
            "images": extremes.by_error(self.index, truth.test, headline),
            "nme_by_yaw": {
                "protocol": headline.protocol,
                "normaliser": headline.normaliser,
                "bins": [asdict(part) for part in bins if part.count],
            },
            "accuracy": hits.to_json(),
        }

    def _poses(self, poses: NDArray[np.int64]) -> dict[str, Any]:
        """Agreement of poses with yaw, where there is yaw."""
        yaw = self.yaw()
        if not np.isfinite(yaw).any():
            return {}
        agreement = clusters.pose_agreement(poses[self.index.judged()], yaw)
        measures = {"pose_purity": agreement.purity, "pose_nmi": agreement.normalised_mutual_information}
        return {**measures, "poses": agreement.to_json()}

    def _seen(self, known: NDArray[np.float32], points: NDArray[np.float32], truth: Truth) -> dict[str, Any]:
        """How well a method knows which of its landmarks are hidden, where the annotation says so."""
        seen = self.index.visible(truth.test)
        if seen.all():
            return {}
        partners = visible.partners(points[truth.train], truth.points[truth.train], self.index.visible(truth.train))
        found = np.isfinite(points[truth.test]).all(-1)
        area = visible.area_under_curve(np.where(found, known[truth.test], np.nan), seen[:, partners])
        return {} if area is None else {"visibility_auc": area}

    def _probed(self, method: str, points: NDArray[np.float32], poses: NDArray[np.int64]) -> dict[str, Any]:
        """Consistency under the store's own random similarity, and how well descriptors of landmarks keep apart."""
        path = files.join(self.run.method(method), PROBE)
        if not files.exists(path):
            return {}
        probe = Probe.read(path)
        # In a mirrored view left and right change places.
        turned = np.linalg.det(probe.matrices) > 0
        moves = consistency.consistency(points[probe.rows][turned], probe.moved[turned], probe.matrices[turned], SIDE)
        found = np.isfinite(probe.descriptors).all(-1)
        descriptors = probe.descriptors[found].astype(np.float32)
        # A landmark is the same in every pose, so its descriptors of all poses are one cluster.
        landmarks = np.broadcast_to(np.arange(points.shape[1]), found.shape)
        apart = clusters.separation(descriptors, landmarks[found], self.seed)
        # Those of two stages are the landmarks of each pose, Q x K of them (paper, Table 3); with one stage poses are all 0.
        of_poses = (landmarks + points.shape[1] * poses[probe.rows][:, None])[found]
        joint = clusters.separation(descriptors, of_poses, self.seed)
        return {
            "consistency_px": moves.error_px,
            "silhouette": apart.silhouette,
            "calinski_harabasz": apart.calinski_harabasz,
            "clusters": len(np.unique(of_poses)),
            "clusters_silhouette": joint.silhouette,
            "clusters_calinski_harabasz": joint.calinski_harabasz,
            "consistency": moves.to_json(),
            "images": extremes.by_consistency(self.index, points, probe, SIDE),
        }

    def _churn(self, method: str) -> list[float]:
        """Share of labels that changed, from round to round of the method's training."""
        return [event["churn"] for event in self.run.rounds(method) if "churn" in event]
