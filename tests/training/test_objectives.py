"""Objectives: three ranks with unequal shares give the gradient of one; what is frozen gets none; labelled points follow their view."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
import torch.distributed
from torch import Tensor
from written import written

from uldscale.labels import Labels
from uldscale.losses.config import LossConfig
from uldscale.losses.contrastive import Policy
from uldscale.models.network import Network
from uldscale.store.features import FeatureStore
from uldscale.training.batches import Batch, Batches
from uldscale.training.objectives import Objective
from uldscale.training.schedule import NetworkConfig, Stage, TrainConfig

NETWORK = NetworkConfig.model_validate(
    {
        "grid": 16,
        "aggregator": {"hidden": 8, "width": 12, "upsample_first": False},
        "heads": {"descriptor": 8},
        "vae": {"latent": 6, "width": 4},
    }
)


def labels() -> Labels:
    random = np.random.default_rng(0)
    points = random.uniform(0.2, 0.8, (12, 3, 2)).astype(np.float32)
    points[3, 1] = np.nan
    return written(points, np.arange(12) % 2)


def make_network(store: FeatureStore) -> Network:
    torch.manual_seed(0)
    return Network({name: torch.from_numpy(steps) for name, steps in store.scales().items()}, 1, NETWORK)


def draw(store: FeatureStore, stage: Stage, rank: int, world: int) -> Batch:
    batches = Batches(store, np.arange(12), batch=8, latent=6, seed=0, rank=rank, world=world)
    return next(batches(stage, range(1), None if stage is Stage.BOOTSTRAP else labels()))


def gradients(root: str, stage: Stage, rank: int = 0, world: int = 1) -> dict[str, Tensor]:
    """In 64 bits: in 32 the last bits of a sum, which differ by processor and by number of images, are as large as a small gradient."""
    store = FeatureStore.open(root)
    network = make_network(store).double()
    network.trainable(TrainConfig().trained(stage))
    objective = Objective(network, stage, LossConfig())
    batch = draw(store, stage, rank, world)
    floats = {name: getattr(batch, name).double() for name in ("matrices", "points", "noise")}
    objective(replace(batch, **floats))["loss"].backward()
    return {name: weight.grad for name, weight in network.named_parameters() if weight.grad is not None}


def on_rank(rank: int, root: str, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=3)
    averaged = {}
    for stage in Stage:
        for name, gradient in gradients(root, stage, rank, 3).items():
            torch.distributed.all_reduce(gradient)
            averaged[f"{stage}/{name}"] = gradient / 3
    if rank == 0:
        torch.save(averaged, f"{folder}/gradients.pt")
    torch.distributed.barrier()  # a rank that leaves before the other has read its last sum resets the connection
    torch.distributed.destroy_process_group()


def test_three_ranks_give_the_gradient_of_one(store: FeatureStore, tmp_path: Path) -> None:
    commands = [[sys.executable, __file__, str(rank), store.root, str(tmp_path)] for rank in range(3)]
    ranks = [subprocess.Popen(command) for command in commands]
    assert [process.wait(120) for process in ranks] == [0, 0, 0]
    averaged = torch.load(tmp_path / "gradients.pt", weights_only=True)
    for stage in Stage:
        alone = gradients(store.root, stage)
        largest = max(float(gradient.abs().max()) for gradient in alone.values())
        for name, gradient in alone.items():
            torch.testing.assert_close(averaged[f"{stage}/{name}"], gradient, rtol=1e-9, atol=1e-9 * largest)


@pytest.mark.parametrize("stage", Stage)
def test_only_the_parts_of_a_stage_learn(store: FeatureStore, stage: Stage) -> None:
    rooms = {"vae.encoder": "encoder", "vae.decoder": "decoder"}
    learning = {rooms.get(".".join(name.split(".")[:2]), name.split(".")[0]) for name in gradients(store.root, stage)}
    assert learning == TrainConfig().trained(stage)


@pytest.mark.parametrize(("through", "parts"), [(False, {"vae"}), (True, {"vae", "detector", "aggregator"})])
def test_equation_3_teaches_the_encoder_alone_unless_told_otherwise(
    store: FeatureStore, through: bool, parts: set[str]
) -> None:
    network = make_network(store)
    network.trainable(TrainConfig().trained(Stage.D_ULD_PP))
    config = LossConfig(pose_moves_detector=through)
    losses = Objective(network, Stage.D_ULD_PP, config)(draw(store, Stage.D_ULD_PP, 0, 1))
    losses["pose"].backward()
    taught = {name.split(".")[0] for name, weight in network.named_parameters() if weight.grad is not None}
    assert taught == parts


def test_a_frozen_descriptor_head_does_not_learn_in_the_last_stage(store: FeatureStore) -> None:
    config = TrainConfig(frozen_descriptor=True)
    assert config.trained(Stage.D_ULD_PP) == {"aggregator", "detector", "encoder"}
    assert "descriptor" in config.trained(Stage.D_ULD)


def test_a_mirrored_pair_teaches_nothing(store: FeatureStore) -> None:
    """Left would be right; with the other pair alone the losses are the same, as a share of both."""
    batch = draw(store, Stage.BOOTSTRAP, 0, 1)
    mirror = torch.tensor([[-1.0, 0, 1], [0, 1, 0], [0, 0, 1]])
    matrices = batch.matrices.clone()
    matrices[1, ::2] = mirror @ matrices[1, ::2]
    objective = Objective(make_network(store), Stage.BOOTSTRAP, LossConfig())
    losses = objective(replace(batch, matrices=matrices))
    features = {name: torch.cat([half[1::2] for half in maps.chunk(2)]) for name, maps in batch.features.items()}
    alone = objective(replace(batch, features=features, matrices=batch.matrices[:, 1::2]))
    torch.testing.assert_close(losses["loss"], alone["loss"] / 2)
    told = Objective(make_network(store), Stage.BOOTSTRAP, LossConfig(mirrored=True))
    assert told(replace(batch, matrices=matrices))["loss"] > 1.1 * losses["loss"]


def test_settings_say_what_a_landmark_in_two_poses_is(store: FeatureStore) -> None:
    batch = draw(store, Stage.D_ULD_PP, 0, 1)
    network = make_network(store)
    losses = {
        policy: Objective(network, Stage.D_ULD_PP, LossConfig(policy=policy))(batch)["descriptor"].item()
        for policy in get_args(Policy)
    }
    assert len(set(losses.values())) == 3


@pytest.mark.parametrize("stage", Stage)
def test_only_the_network_is_rounded(store: FeatureStore, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under autocast losses of the same outputs are the same."""
    batch, network = draw(store, stage, 0, 1), make_network(store)
    outputs = network(batch.features)
    monkeypatch.setattr(network, "forward", lambda features: outputs)
    objective = Objective(network, stage, LossConfig())
    wanted = objective(batch)
    with torch.autocast("cpu", torch.bfloat16):
        assert objective(batch) == wanted


def test_labelled_points_follow_their_view(store: FeatureStore) -> None:
    batch = draw(store, Stage.D_ULD, 0, 1)
    network = make_network(store)
    moved = Objective(network, Stage.D_ULD, LossConfig())._points(batch).unflatten(0, (2, -1))
    for view in range(2):
        for image in range(8):
            homogeneous = torch.cat([batch.points[image], torch.ones(3, 1)], dim=1)
            expected = (batch.matrices[view, image] @ homogeneous.T).T[:, :2]
            torch.testing.assert_close(moved[view, image], expected, equal_nan=True)


def test_the_vae_rebuilds_wider_heatmaps_than_the_detector_learns(store: FeatureStore) -> None:
    batch = draw(store, Stage.POSE_PROXY, 0, 1)

    def losses(**config: float) -> dict[str, Tensor]:
        return Objective(make_network(store), Stage.POSE_PROXY, LossConfig(**config))(batch)

    wide, narrow, equal = losses(sigma=1, pose_sigma=2), losses(sigma=1, pose_sigma=1), losses(sigma=2, pose_sigma=2)
    assert wide["detector"] == narrow["detector"] != equal["detector"]
    assert narrow["reconstruction"] != wide["reconstruction"] == equal["reconstruction"]


if __name__ == "__main__":
    on_rank(int(sys.argv[1]), sys.argv[2], sys.argv[3])
