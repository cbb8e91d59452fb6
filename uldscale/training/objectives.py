"""What each stage minimises (paper, Sections 3.2 and 3.3), as modules that turn a batch into named losses.

Law: averaging the losses of several workers, or their gradients, gives those of one worker with the whole batch. So a mean over
images weighs a rank by its share of them, and a rank's part of a sum over pairs counts as often as there are ranks.

B images of this rank in two views, K landmarks, D descriptor size, G grid side.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from uldscale.losses.config import LossConfig
from uldscale.losses.contrastive import descriptor_loss, latent_loss
from uldscale.losses.elbo import Elbo, elbo
from uldscale.losses.heatmap import heatmap_loss, targets
from uldscale.losses.silk import silk_loss
from uldscale.models.keypoints import sample
from uldscale.models.network import Network, Outputs
from uldscale.models.views import apply
from uldscale.runtime.ranks import gather, rank, total, world_size
from uldscale.training.batches import Batch
from uldscale.training.schedule import Stage

Losses = dict[str, Tensor]


class Objective(nn.Module):
    """The network together with the losses of one stage; `forward` gives the losses by name, their weighted sum as "loss"."""

    def __init__(self, network: Network, stage: Stage, config: LossConfig) -> None:
        super().__init__()
        self.network = network
        self._config = config
        self._losses = {
            Stage.BOOTSTRAP: self._bootstrap,
            Stage.D_ULD: self._self_training,
            Stage.POSE_PROXY: self._pose_proxy,
            Stage.D_ULD_PP: self._pose_guided,
            Stage.FULL_VAE: self._full_vae,
            Stage.MALLIS_D: self._self_training,
            Stage.CONTROL: self._self_training,
        }[stage]

    def forward(self, batch: Batch) -> Losses:
        """Losses of a batch: scalars by name.

        The losses are in float32 at least: autocast would round products of coordinates, and labels on a grid of 64 were 0.11 cells off.
        """
        outputs = self.network(batch.features)
        with torch.autocast(outputs.logits.device.type, enabled=False):
            return self._losses(batch, outputs.promoted())

    def _bootstrap(self, batch: Batch, outputs: Outputs) -> Losses:
        """SiLK: correspondences between two views of one image supervise descriptors and detector."""
        first, second = batch.matrices
        (descriptors_a, descriptors_b), (logits_a, logits_b) = outputs.descriptors.chunk(2), outputs.logits.chunk(2)
        between = second @ torch.linalg.inv(first)
        # A mirrored pair would teach that left is right: sent far outside, it has no correspondence, and counts as 0.
        if not self._config.mirrored:
            between[:, :2, 2] += 100 * (torch.linalg.det(between) < 0)[:, None]
        silk = silk_loss(
            descriptors_a, descriptors_b, logits_a, logits_b, between, temperature=self._config.temperature
        )
        descriptor, detector = (_weight(batch) * part for part in silk)
        return {"loss": descriptor + detector, "descriptor": descriptor, "detector": detector}

    def _self_training(self, batch: Batch, outputs: Outputs) -> Losses:
        """D-ULD and Mallis(D): heatmaps of the pseudo-labels for the detector, Eq. 4 for the descriptors."""
        detector = self._detector(batch, outputs)
        descriptor = self._descriptor(batch, outputs)
        loss = self._config.detector_weight * detector + self._config.descriptor_weight * descriptor
        return {"loss": loss, "detector": detector, "descriptor": descriptor}

    def _pose_proxy(self, batch: Batch, outputs: Outputs) -> Losses:
        """Pose proxy: the VAE rebuilds the pseudo-label heatmap from the predicted one (ELBO)."""
        detector, parts = self._detector(batch, outputs), self._elbo(batch, outputs)
        loss = self._config.detector_weight * detector + self._config.pose_weight * parts.total
        return {"loss": loss, "detector": detector, "reconstruction": parts.reconstruction, "kl": parts.kl}

    def _full_vae(self, batch: Batch, outputs: Outputs) -> Losses:
        """As D-ULD, with the ELBO."""
        losses, parts = self._self_training(batch, outputs), self._elbo(batch, outputs)
        loss = losses["loss"] + self._config.pose_weight * parts.total
        return {**losses, "loss": loss, "reconstruction": parts.reconstruction, "kl": parts.kl}

    def _elbo(self, batch: Batch, outputs: Outputs) -> Elbo:
        """Of the VAE on the predicted heatmaps of the first view, against the pseudo-label heatmaps."""
        vae, heat = self.network.vae, outputs.logits.chunk(2)[0].sigmoid()
        mean, log_variance = vae.encode(heat)
        rebuilt = vae.decode(mean + batch.noise * (0.5 * log_variance).exp())
        target = self._heatmaps(batch, self._config.pose_sigma)[: len(batch.points)]
        parts = elbo(
            rebuilt, target, mean, log_variance, kl_weight=self._config.kl_weight, positive_weight=self._config.positive_weight
        )  # fmt: skip
        return Elbo(*(_weight(batch) * part for part in parts))

    def _pose_guided(self, batch: Batch, outputs: Outputs) -> Losses:
        """D-ULD++: as D-ULD, with Eq. 3 on the pose codes in the place of the ELBO.

        Eq. 3 teaches the encoder alone, unless told otherwise. Passed on to the detector it draws the heatmaps of a pose together, and
        landmarks say less: forward NME 5.06 instead of 5.01 on real faces, consistency 1.44 instead of 1.27 px.
        """
        losses = self._self_training(batch, outputs)
        logits = outputs.logits.chunk(2)[0]
        codes = self.network.codes(logits if self._config.pose_moves_detector else logits.detach())
        pose = world_size() * latent_loss(
            gather(codes, batch.images), gather(batch.poses, batch.images), margin=self._config.margin,
            raw=self._config.raw_codes, squared=self._config.squared, negatives=self._config.negatives, own=_own(batch.images), total=total,
        )  # fmt: skip
        return {**losses, "loss": losses["loss"] + self._config.pose_weight * pose, "pose": pose}

    def _heatmaps(self, batch: Batch, sigma: float) -> Tensor:
        """Pseudo-label heatmaps of both views, (2 B, 1, G, G)."""
        points = self._points(batch)
        return targets(points.nan_to_num(), points.isfinite().all(-1), self.network.config.grid, sigma)

    def _detector(self, batch: Batch, outputs: Outputs) -> Tensor:
        heatmaps = self._heatmaps(batch, self._config.sigma)
        return _weight(batch) * heatmap_loss(outputs.logits, heatmaps, positive_weight=self._config.positive_weight)

    def _descriptor(self, batch: Batch, outputs: Outputs) -> Tensor:
        """Eq. 4 over the labelled points of the whole global batch."""
        points, views = self._points(batch), [2 * count for count in batch.images]
        descriptors = gather(sample(outputs.descriptors, points.nan_to_num(0.5)), views)
        points, (count, landmarks) = gather(points, views), descriptors.shape[:2]
        inside = points.isfinite().all(-1) & (points >= 0).all(-1) & (points <= 1).all(-1)
        labels = torch.arange(landmarks, device=points.device).expand(count, -1).where(inside, -1)
        poses = gather(batch.poses.repeat(2), views).repeat_interleave(landmarks)
        return world_size() * descriptor_loss(
            descriptors.flatten(0, 1), labels.flatten(), torch.arange(count, device=points.device).repeat_interleave(landmarks),
            points.flatten(0, 1), margin=self._config.margin, min_distance=self._config.min_distance,
            squared=self._config.squared, poses=poses, policy=self._config.policy, negatives=self._config.negatives,
            own=_own([landmarks * each for each in views]), total=total,
        )  # fmt: skip

    def _points(self, batch: Batch) -> Tensor:
        """Labelled points in both views, (2 B, K, 2), NaN where missing."""
        both = batch.points.expand(2, -1, -1, -1)
        return apply(batch.matrices, both).flatten(0, 1)


def _weight(batch: Batch) -> float:
    """Of a mean over this rank's images, where losses of ranks are averaged."""
    return world_size() * batch.images[rank()] / sum(batch.images)


def _own(counts: Sequence[int]) -> slice:
    """The rows of this rank among the gathered ones."""
    start = sum(counts[: rank()])
    return slice(start, start + counts[rank()])
