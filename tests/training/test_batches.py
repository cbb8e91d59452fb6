"""Batches: pure functions of stage, step and labels, shared by the ranks."""

import numpy as np
import pytest
from written import written

from uldscale.errors import DataError
from uldscale.labels import Labels
from uldscale.store.features import FeatureStore
from uldscale.training.batches import Batch, Batches
from uldscale.training.schedule import Stage

ROWS = np.arange(10)


def batches(store: FeatureStore, rank: int = 0, world: int = 1) -> Batches:
    return Batches(store, ROWS, batch=4, latent=6, seed=0, rank=rank, world=world)


def labels() -> Labels:
    points = np.full((12, 3, 2), 0.5, np.float32)
    points[3, 1] = np.nan
    return written(points, np.array([0, 1, 0, 1, 0, 1, 0, 1, 0, -1, -1, -1]))


def same(first: Batch, second: Batch) -> bool:
    tensors = [(first.features[name], second.features[name]) for name in first.features]
    tensors += [(getattr(first, name), getattr(second, name)) for name in ("matrices", "points", "poses", "noise")]
    return all(bool((ours.nan_to_num(-1.0) == theirs.nan_to_num(-1.0)).all()) for ours, theirs in tensors)


@pytest.mark.parametrize("stage", Stage)
def test_any_step_can_be_drawn_alone(store: FeatureStore, stage: Stage) -> None:
    table = None if stage is Stage.BOOTSTRAP else labels()
    run = list(batches(store)(stage, range(6), table))
    assert same(next(batches(store)(stage, range(4, 6), table)), run[4])
    assert not same(run[4], run[5])


@pytest.mark.parametrize("stage", Stage)
def test_shares_make_the_whole(store: FeatureStore, stage: Stage) -> None:
    table = None if stage is Stage.BOOTSTRAP else labels()
    whole = next(batches(store)(stage, range(1), table))
    parts = [next(batches(store, rank, 2)(stage, range(1), table)) for rank in range(2)]
    assert (np.concatenate([part.poses for part in parts]) == whole.poses.numpy()).all()
    assert (np.concatenate([part.noise for part in parts]) == whole.noise.numpy()).all()
    assert (np.concatenate([part.matrices for part in parts], axis=1) == whole.matrices.numpy()).all()
    for name, maps in whole.features.items():
        pairs = np.concatenate([part.features[name].numpy().reshape(2, -1, *maps.shape[1:]) for part in parts], axis=1)
        assert (pairs.reshape(maps.shape) == maps.numpy()).all()


def test_features_belong_to_their_matrices(store: FeatureStore) -> None:
    """Both views of a pair come from one image, with the transform that the store has for them."""
    batch = next(batches(store)(Stage.BOOTSTRAP, range(1), None))
    from uldscale.store.reader import FeatureReader

    maps = FeatureReader(store).read(np.repeat(np.arange(12), 2), np.tile([0, 1], 12))["r08"].reshape(12, 2, -1)
    for place in range(4):
        pair = batch.features["r08"].reshape(2, 4, -1)[:, place].numpy()
        row, view = np.argwhere((maps == pair[0]).all(-1))[0]
        assert (maps[row, 1 - view] == pair[1]).all()
        assert (batch.matrices[:, place].numpy() == store.views()[row, [view, 1 - view]]).all()


def test_pose_stages_start_from_the_image_itself(store: FeatureStore) -> None:
    for stage in (Stage.POSE_PROXY, Stage.D_ULD_PP):
        for batch in batches(store)(stage, range(5), labels()):
            assert (batch.matrices[0].numpy() == np.eye(3)).all()
            assert not (batch.matrices[1].numpy() == np.eye(3)).all()


@pytest.mark.parametrize("poses", [np.arange(12), np.full(12, -1)])
def test_poses_of_one_image_each_are_the_users_turn(store: FeatureStore, poses: np.ndarray) -> None:
    alone = written(np.full((12, 3, 2), 0.5, np.float32), poses)
    with pytest.raises(DataError, match="no pose has two images with labels, which stage d_uld_pp compares"):
        next(batches(store)(Stage.D_ULD_PP, range(1), alone))


def test_images_without_labels_are_not_drawn(store: FeatureStore) -> None:
    for stage in (Stage.D_ULD, Stage.D_ULD_PP):
        for batch in batches(store)(stage, range(8), labels()):
            assert (batch.poses >= 0).all()
