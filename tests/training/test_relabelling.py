"""Rounds of labels: a faint landmark is not lost, landmarks follow a network that moves on, Mallis(D) starts anew."""

from dataclasses import replace

import numpy as np
import pytest

from uldscale.clustering.two_stage import ClusterConfig, Clustering
from uldscale.errors import DataError
from uldscale.labels import LabelTable
from uldscale.training.description import Keypoints
from uldscale.training.relabelling import cluster

IMAGES, LANDMARKS, SIZE = 60, 4, 12
CONFIG = ClusterConfig(landmarks=LANDMARKS, poses=2, segments=8, candidates=2)
LOOKS = np.eye(2 * LANDMARKS, SIZE, dtype=np.float32)
PLACES = np.array([[0.2, 0.2], [0.8, 0.2], [0.2, 0.8], [0.8, 0.8]])


def scene(seed: int = 0, clutter: int = 4, turn: np.ndarray | None = None) -> Keypoints:
    """Four landmarks at their places, and clutter of four other looks anywhere; `turn` rotates all descriptors."""
    generator = np.random.default_rng(seed)
    count = LANDMARKS + clutter
    points = np.concatenate([np.tile(PLACES, (IMAGES, 1, 1)), generator.random((IMAGES, clutter, 2))], 1)
    looks = np.concatenate([LOOKS[:LANDMARKS], LOOKS[LANDMARKS + np.arange(clutter) % LANDMARKS]])
    descriptors = np.tile(looks, (IMAGES, 1)) + 0.05 * generator.normal(size=(IMAGES * count, SIZE))
    descriptors = (descriptors if turn is None else descriptors @ turn).astype(np.float32)
    return Keypoints(
        rows=np.arange(IMAGES),
        codes=np.where(np.arange(IMAGES) % 2, 1, -1)[:, None].astype(np.float32),
        row=np.repeat(np.arange(IMAGES), count),
        points=(points + 0.005 * generator.normal(size=points.shape)).reshape(-1, 2).astype(np.float32),
        scores=np.ones(IMAGES * count, np.float32),
        descriptors=descriptors,
        anchors=None if turn is None else (LOOKS[:LANDMARKS] @ turn).astype(np.float32),
    )


def in_order_of(table: LabelTable, keypoints: Keypoints) -> Keypoints:
    """The keypoints with anchors in the order in which the table numbers landmarks."""
    assert keypoints.anchors is not None
    order = [int(np.argmin(np.linalg.norm(PLACES - place, axis=1))) for place in means(table)]
    return replace(keypoints, anchors=keypoints.anchors[order])


def means(table: LabelTable) -> np.ndarray:
    points = np.stack([table.x, table.y], -1)
    return np.stack([points[table.k == k].mean(0) for k in range(LANDMARKS)])


def first() -> LabelTable:
    return cluster(scene(), CONFIG, Clustering.SINGLE_STAGE, number=0, seed=0, previous=None)


def test_the_first_round_finds_the_landmarks_and_leaves_the_clutter() -> None:
    table = first()
    found = means(table)
    np.testing.assert_allclose(found[np.lexsort(found.round(1).T)], PLACES, atol=0.01)
    assert len(table.k) == IMAGES * LANDMARKS


@pytest.mark.parametrize("kind", [Clustering.SINGLE_STAGE, Clustering.TWO_STAGE])
def test_landmarks_stay_while_the_network_moves_on(kind: Clustering) -> None:
    table = first()
    turn = np.linalg.qr(np.random.default_rng(5).normal(size=(SIZE, SIZE)))[0]
    now = in_order_of(table, scene(seed=1, clutter=0, turn=turn))
    again = cluster(now, CONFIG, kind, number=1, seed=0, previous=table)
    np.testing.assert_allclose(means(again), means(table), atol=0.02)
    assert again.churn(table) == 0
    assert len(np.unique(again.q)) == (2 if kind is Clustering.TWO_STAGE else 1)


def test_over_segmented_labels_are_exemplars_of_exemplars() -> None:
    table = cluster(scene(), CONFIG, Clustering.OVER_SEGMENTED, number=0, seed=0, previous=None)
    assert table.k.max() < CONFIG.segments
    assert np.bincount(table.row, minlength=IMAGES).max() <= LANDMARKS
    assert table.clusters["global_centroids"].shape == (LANDMARKS, SIZE)
    again = cluster(scene(), CONFIG, Clustering.OVER_SEGMENTED, number=1, seed=0, previous=table)
    np.testing.assert_array_equal(again.clusters["global_centroids"], table.clusters["global_centroids"])


def test_too_few_keypoints() -> None:
    few = replace(scene(), row=np.zeros(3, np.int64))
    with pytest.raises(DataError, match="3 keypoints on 60 images, but 4 landmarks"):
        cluster(few, CONFIG, Clustering.SINGLE_STAGE, number=0, seed=0, previous=None)
