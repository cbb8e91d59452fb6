"""What ranks see: the same keypoints however images are shared, and landmarks followed through a network that moves on."""

from collections.abc import Callable

import numpy as np
import torch

from uldscale.clustering.two_stage import Clusters
from uldscale.models.keypoints import KeypointConfig, sample
from uldscale.training.batches import DenseLabels
from uldscale.training.description import Keypoints, describe
from uldscale.training.loop import Training

BORDER, ROWS = 0.1, 12


def labels() -> DenseLabels:
    """Three landmarks; the first image has none of the second, and no image has the third."""
    points = np.random.default_rng(0).uniform(0.2, 0.8, (ROWS, 3, 2)).astype(np.float32)
    points[0, 1] = points[:, 2] = np.nan
    return DenseLabels(points, np.zeros(ROWS, np.int64))


def seen(training: Training, rows: np.ndarray) -> Keypoints:
    return describe(training.network.eval(), training.reader, rows, KeypointConfig(), BORDER, labels())


def test_shares_leave_no_trace(make_training: Callable[..., Training]) -> None:
    training = make_training("run")
    whole = seen(training, np.arange(8))
    parts = Keypoints.joined([seen(training, rows) for rows in (np.arange(5, 8), np.arange(5))])
    for name, values in vars(whole).items():
        # A convolution's last digits depend on the number of images in the call.
        np.testing.assert_allclose(getattr(parts, name), values, rtol=1e-4, atol=1e-4, err_msg=name)


def test_landmarks_are_where_their_members_descriptors_are_now(make_training: Callable[..., Training]) -> None:
    training, rows = make_training("run"), np.arange(6)
    maps = training.reader.read(rows, np.zeros_like(rows))
    with torch.no_grad():
        outputs = training.network.eval()({name: torch.from_numpy(values) for name, values in maps.items()})
    members = sample(outputs.descriptors, torch.from_numpy(labels().points[rows])).numpy()
    before = Clusters(np.zeros((1, 3, 8), np.float32), np.full((3, 8), 9, np.float32))
    now = seen(training, rows).as_seen_now(before)
    np.testing.assert_allclose(now.global_centroids[0], members[:, 0].mean(0), atol=1e-6)
    np.testing.assert_allclose(now.global_centroids[1], members[1:, 1].mean(0), atol=1e-6)
    assert (now.global_centroids[2] == 9).all(), "a landmark without members stays"
    assert now.centroids is before.centroids


def test_there_is_nothing_to_follow_before_the_first_round(make_training: Callable[..., Training]) -> None:
    training = make_training("run")
    first = describe(training.network.eval(), training.reader, np.arange(4), KeypointConfig(), BORDER)
    assert first.anchors.shape == (0, 8)
    assert first.anchored.shape == (0,)
