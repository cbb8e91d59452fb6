"""Rounds of labels: a faint landmark is not lost, landmarks follow a network that moves on, Mallis(D) starts anew."""

from dataclasses import replace

import numpy as np
import pytest

from uldscale.clustering.two_stage import ClusterConfig, Clustering
from uldscale.errors import DataError
from uldscale.labels import Exemplars
from uldscale.training.description import Keypoints
from uldscale.training.labelling import Labelling
from uldscale.training.relabelling import fit
from uldscale.training.tally import churn

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
        places=np.zeros((IMAGES, 0, 2), np.float32),
        poses=np.full(IMAGES, -1),
        anchors=None if turn is None else (LOOKS[:LANDMARKS] @ turn).astype(np.float32),
    )


def in_order_of(found: Exemplars, keypoints: Keypoints) -> Keypoints:
    """The keypoints of the round after, with anchors in the order in which landmarks are numbered."""
    assert keypoints.anchors is not None
    order = [int(np.argmin(np.linalg.norm(PLACES - place, axis=1))) for place in means(found)]
    return replace(keypoints, anchors=keypoints.anchors[order], places=found.points)


def means(found: Exemplars) -> np.ndarray:
    return np.nanmean(found.points, axis=0)


def first() -> Labelling:
    return fit(scene(), CONFIG, Clustering.SINGLE_STAGE, number=0, seed=0, previous=None)


def test_the_first_round_finds_the_landmarks_and_leaves_the_clutter() -> None:
    found = first()(scene())
    places = means(found)
    np.testing.assert_allclose(places[np.lexsort(places.round(1).T)], PLACES, atol=0.01)
    assert found.found.all()


@pytest.mark.parametrize("kind", [Clustering.SINGLE_STAGE, Clustering.TWO_STAGE])
def test_landmarks_stay_while_the_network_moves_on(kind: Clustering) -> None:
    fitted, found = first(), first()(scene())
    turn = np.linalg.qr(np.random.default_rng(5).normal(size=(SIZE, SIZE)))[0]
    now = in_order_of(found, scene(seed=1, clutter=0, turn=turn))
    again = fit(now, CONFIG, kind, number=1, seed=0, previous=fitted.clusters)(now)
    np.testing.assert_allclose(means(again), means(found), atol=0.02)
    assert churn(again.points, found.points).tolist() == [0, IMAGES * LANDMARKS]
    assert len(np.unique(again.poses)) == (2 if kind is Clustering.TWO_STAGE else 1)


def test_over_segmented_labels_are_exemplars_of_exemplars() -> None:
    fitted = fit(scene(), CONFIG, Clustering.OVER_SEGMENTED, number=0, seed=0, previous=None)
    found = fitted(scene())
    assert found.points.shape == (IMAGES, CONFIG.segments, 2)
    assert found.found.sum(1).max() <= LANDMARKS
    assert fitted.clusters.global_centroids.shape == (LANDMARKS, SIZE)
    again = fit(scene(), CONFIG, Clustering.OVER_SEGMENTED, number=1, seed=0, previous=fitted.clusters)
    np.testing.assert_array_equal(again.clusters.global_centroids, fitted.clusters.global_centroids)


def test_a_gate_holds_in_the_first_round_too() -> None:
    free = fit(scene(), CONFIG, Clustering.SINGLE_STAGE, number=0, seed=0, previous=None)
    gated = fit(scene(), CONFIG.updated(gate=True), Clustering.SINGLE_STAGE, number=0, seed=0, previous=None)
    assert gated.gate is not None
    loose, strict = free(scene()), gated(scene())
    assert strict.found.sum() < loose.found.sum()
    assert (strict.distances[strict.found] <= np.broadcast_to(gated.gate, strict.found.shape)[strict.found]).all()


@pytest.mark.parametrize("kind", Clustering)
def test_a_part_of_the_images_is_labelled_as_the_whole(kind: Clustering) -> None:
    """What was fitted on a sample labels each image by itself, also after it was kept and read again."""
    whole = scene()
    sample = whole.on(np.arange(IMAGES) % 3 > 0)
    config = CONFIG.updated(gate=True)
    fitted = fit(sample, config, kind, number=0, seed=0, previous=None)
    kept = Labelling.from_arrays(fitted.arrays())
    found, some = fitted(whole), np.arange(IMAGES) % 5 == 0
    part = kept(whole.on(some))
    for name, values in vars(part).items():
        np.testing.assert_array_equal(values, getattr(found, name)[some], name)
    assert (part.poses >= 0).all()


def test_too_few_keypoints() -> None:
    few = replace(scene(), row=np.zeros(3, np.int64))
    with pytest.raises(DataError, match="3 keypoints on 60 images, but 4 landmarks"):
        fit(few, CONFIG, Clustering.SINGLE_STAGE, number=0, seed=0, previous=None)
