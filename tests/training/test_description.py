"""What ranks see: the same keypoints however images are shared, and landmarks followed through a network that moves on."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from written import written

from uldscale.clustering.two_stage import Clusters
from uldscale.labels import Labels
from uldscale.models.keypoints import KeypointConfig, sample
from uldscale.models.landmarks import Located
from uldscale.training import description
from uldscale.training.anchors import MIN_MEMBERS, Anchors, find_anchors
from uldscale.training.description import Keypoints, describe
from uldscale.training.loop import Training

BORDER, ROWS, LANDMARKS = 0.1, 12, 3


@pytest.fixture
def training(training_in: Callable[..., Training], tmp_path: Path) -> Training:
    training = training_in(tmp_path / "run")
    training.network.eval()
    return training


def labels() -> Labels:
    """Three landmarks in two poses, of which the second has two images; the first image has none of landmark 1, no image landmark 2."""
    points = np.random.default_rng(0).uniform(0.2, 0.8, (ROWS, LANDMARKS, 2)).astype(np.float32)
    points[0, 1] = points[:, 2] = np.nan
    return written(points, np.isin(np.arange(ROWS), [3, 4]).astype(np.int64))


def before() -> Clusters:
    return Clusters(np.zeros((2, LANDMARKS, 8), np.float32), np.full((LANDMARKS, 8), 9, np.float32))


def anchors(training: Training) -> Anchors:
    return find_anchors(training.network, training.reader, np.arange(ROWS), labels(), before())


@pytest.mark.parametrize("followed", [False, True])
def test_shares_leave_no_trace(training: Training, followed: bool) -> None:
    known = anchors(training) if followed else None

    def seen(rows: np.ndarray) -> Keypoints:
        return next(describe(training.network, training.reader, [rows], KeypointConfig(), BORDER, None, known))

    whole, parts = seen(np.arange(8)), Keypoints.joined([seen(rows) for rows in (np.arange(5, 8), np.arange(5))])
    for name, values in vars(whole).items():
        # A convolution's last digits depend on the number of images in the call.
        if values is not None:
            np.testing.assert_allclose(getattr(parts, name), values, rtol=1e-4, atol=1e-4, err_msg=name)


def test_anchors_are_the_means_of_the_members_descriptors(training: Training) -> None:
    rows = np.arange(ROWS)
    maps = training.reader.read(rows, np.zeros_like(rows))
    with torch.no_grad():
        outputs = training.network({name: torch.from_numpy(values) for name, values in maps.items()})
    members = sample(outputs.descriptors, torch.from_numpy(labels().points(rows))).numpy()
    found = anchors(training)
    np.testing.assert_allclose(found.landmarks[0], members[:, 0].mean(0), atol=1e-6)
    np.testing.assert_allclose(found.landmarks[1], members[1:, 1].mean(0), atol=1e-6)
    assert (found.landmarks[2] == 9).all(), "a landmark without members stays"
    assert MIN_MEMBERS == 10
    first = labels().poses == 0
    np.testing.assert_allclose(found.centroids[0, 0], members[first, 0].mean(0), atol=1e-6)
    np.testing.assert_array_equal(found.centroids[1], found.landmarks, "a pose of two images has no anchors of its own")


def test_images_without_a_pose_have_the_anchors_of_all() -> None:
    own = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    known = Anchors(np.zeros((3, 2), np.float32), own, np.array([1, -1, 0]))
    np.testing.assert_array_equal(known.of(np.array([0, 1, 2])), np.stack([own[1], np.zeros((3, 2)), own[0]]))


def test_with_anchors_an_image_has_each_landmark_once_at_most(training: Training) -> None:
    settings, known = KeypointConfig(visible=0), anchors(training)
    found = next(describe(training.network, training.reader, [np.arange(8)], settings, BORDER, None, known))
    counts, cell = np.bincount(found.row, minlength=8), 1 / training.network.config.grid
    assert counts.min() >= 1
    assert counts.max() <= LANDMARKS
    for row in range(8):
        places = found.points[found.row == row]
        assert all(np.linalg.norm(places[i] - places[:i], axis=1).min() >= cell for i in range(1, len(places)))
    assert found.anchors is not None


def test_dense_keypoints_cover_more_of_an_image_than_peaks(training: Training) -> None:
    settings = KeypointConfig(minimum=4)
    peaks, dense = (
        next(describe(training.network, training.reader, [np.arange(8)], settings, BORDER, dense=dense))
        for dense in (False, True)
    )
    assert len(dense.row) > len(peaks.row)
    assert peaks.anchors is None


def test_of_two_landmarks_in_one_place_the_better_is_a_label() -> None:
    points = torch.tensor([[[0.5, 0.5], [0.52, 0.5], [0.9, 0.9], [torch.nan, torch.nan]]])
    found = Located(points, torch.tensor([[0.3, 0.8, 0.1, 0.0]]), torch.ones(1, 4, 2))
    apart = description._apart(found, 1 / 32)
    assert apart.points.isfinite().all(-1).tolist() == [[False, True, True, False]]
    assert apart.scores.tolist() == [[0, pytest.approx(0.8), pytest.approx(0.1), 0]]
    assert apart.descriptors[0, :, 0].tolist() == [0, 1, 1, 1]
    equal = description._apart(found._replace(scores=torch.full((1, 4), 0.5)), 1 / 32)
    assert equal.points.isfinite().all(-1).tolist() == [[True, False, True, False]]
    assert description._apart(found, 1 / 64).points.isfinite().all(-1).tolist() == [[True, True, True, False]]
