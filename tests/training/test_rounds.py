"""Rounds at ranks: the same labels for any number of them, and the sample that all choose together."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed

from uldscale import labels
from uldscale.diffusion.extractor import FeatureConfig
from uldscale.runs import RunFolder
from uldscale.runtime.ranks import barrier, rank, world_size
from uldscale.stages.relabel import Relabeller
from uldscale.store.features import FeatureStore
from uldscale.training.described import Described
from uldscale.training.description import Keypoints
from uldscale.training.labelling import Labelling
from uldscale.training.loop import Training
from uldscale.training.sample import sample
from uldscale.training.schedule import Stage, TrainConfig


class Together:
    """Fits as the service does, with the processes of a group in place of an actor."""

    def __init__(self, config: TrainConfig, run: RunFolder) -> None:
        self._relabeller, self._labels = Relabeller(config.clusters, run, seed=0), run.labels

    def __call__(
        self, stage: Stage, number: int, previous: int | None, keypoints: Keypoints
    ) -> Callable[[], Labelling]:
        parts: list[Any] = [None] * world_size()
        torch.distributed.all_gather_object(parts, keypoints)
        if rank() == 0:
            for part, own in enumerate(parts):
                self._relabeller.add(part, own)
            assert self._relabeller.make(stage, number, previous, len(parts))
        barrier()
        return lambda: Labelling.from_arrays(labels.read_labelling(self._labels, number))


def on_rank(own: int, world: int, root: str, folder: str, settings: str) -> None:
    torch.set_num_threads(1)
    labels.LEAST_BLOCK = 4  # Several blocks, of few rows.
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet{world}", rank=own, world_size=world)
    run, config, store = (
        RunFolder(f"{folder}/{world}"),
        TrainConfig.model_validate_json(settings),
        FeatureStore.open(root),
    )
    rows = store.spec.num_rows
    training = Training(
        config, FeatureConfig(), run, store, np.arange(rows - 2), np.linspace(-80, 80, rows), Together(config, run), 0.1,
        torch.device("cpu"),
    )  # fmt: skip
    training.network.eval()
    made = None
    for number, stage in enumerate((Stage.D_ULD, Stage.D_ULD_PP, Stage.D_ULD_PP, Stage.MALLIS_D)):
        made = training.rounds.end(training.rounds.begin(stage, number, made))
    barrier()
    torch.distributed.destroy_process_group()


@pytest.mark.cluster
def test_any_number_of_ranks_makes_the_same_labels(
    store: FeatureStore, config: TrainConfig, content: Callable[[str], dict[str, bytes]], tmp_path: Path
) -> None:
    """Four have more than there are blocks of rows."""
    for world in (1, 2, 4):
        given = [str(world), store.root, str(tmp_path), config.model_dump_json()]
        commands = [[sys.executable, __file__, str(own), *given] for own in range(world)]
        ranks = [subprocess.Popen(command) for command in commands]
        assert [process.wait(300) for process in ranks] == [0] * world
    one = content(str(tmp_path / "1/labels"))
    assert len(one) > 20
    assert one == content(str(tmp_path / "2/labels")) == content(str(tmp_path / "4/labels"))


@pytest.fixture
def keypoints() -> Keypoints:
    """Three on each of 1000 images."""
    rows = np.arange(1000)
    return Keypoints(
        rows=rows, codes=np.zeros((1000, 2), np.float32), row=np.repeat(rows, 3), points=np.zeros((3000, 2), np.float32),
        scores=np.zeros(3000, np.float32), descriptors=np.random.default_rng(0).random((3000, 4), np.float32),
        places=np.zeros((1000, 0, 2), np.float32), poses=np.full(1000, -1), anchors=None,
    )  # fmt: skip


def test_a_sample_is_whole_images_up_to_a_limit(keypoints: Keypoints) -> None:
    device = torch.device("cpu")
    some = sample([keypoints], 600, seed=0, device=device)
    assert 580 < len(some.row) <= 600
    assert (np.bincount(some.row, minlength=1000)[some.rows] == 3).all()
    assert some.descriptors.dtype == np.float16
    more, others = sample([keypoints], 1200, seed=0, device=device), sample([keypoints], 600, seed=1, device=device)
    assert set(some.rows) < set(more.rows)
    assert len(set(some.rows) & set(others.rows)) < 100
    np.testing.assert_array_equal(sample([keypoints], 3000, seed=0, device=device).rows, keypoints.rows)


def test_a_sample_is_the_same_in_any_blocks(keypoints: Keypoints) -> None:
    """Kept on disk in between."""
    described, whole = Described(), sample([keypoints], 600, seed=0, device=torch.device("cpu"))
    for first in (0, 10, 500):
        last = {0: 10, 10: 500}.get(first, 1000)
        described.append(keypoints.on((keypoints.rows >= first) & (keypoints.rows < last)))
    for name, values in vars(sample(described, 600, seed=0, device=torch.device("cpu"))).items():
        np.testing.assert_array_equal(values, getattr(whole, name))


def test_a_sample_hangs_on_rows_alone(keypoints: Keypoints) -> None:
    """Who has which images, and what else is known of them, does not matter."""
    device = torch.device("cpu")
    other = replace(keypoints, codes=keypoints.codes + 1, descriptors=keypoints.descriptors[::-1])
    np.testing.assert_array_equal(
        sample([keypoints], 900, seed=0, device=device).rows, sample([other], 900, seed=0, device=device).rows
    )


if __name__ == "__main__":
    on_rank(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
