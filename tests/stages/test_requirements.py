"""Numbers that cannot work, or never helped, are told from settings and counts alone."""

from typing import Any

import pytest

from uldscale.config import validate
from uldscale.errors import ConfigError, DataError
from uldscale.models.keypoints import KeypointConfig, most_keypoints
from uldscale.runtime.roles import RuntimeConfig
from uldscale.stages.requirements import require_pixels, require_trainable
from uldscale.training.schedule import TrainConfig


def train(**changes: Any) -> TrainConfig:
    return validate(TrainConfig, changes, "job.yaml")


@pytest.mark.parametrize(("grid", "most"), [(64, 64), (32, 64), (16, 64), (8, 16)])
def test_more_landmarks_than_keypoints_are_refused(grid: int, most: int) -> None:
    settings = {"network": {"grid": grid}}
    assert most_keypoints(KeypointConfig(), grid) == most
    train(clusters={"landmarks": most}, **settings)
    for wanted in (most + 1, 5000):
        with pytest.raises(ConfigError, match=f"landmarks={wanted} is more than the {most} keypoints") as error:
            train(clusters={"landmarks": wanted}, **settings)
        assert "\n" not in str(error.value)


def test_fewer_than_two_images_a_pose() -> None:
    require_trainable(train(clusters={"poses": 15}), 30, 2, RuntimeConfig())
    with pytest.raises(DataError, match=r"30 usable .* are fewer than two for each of train.clusters.poses = 16"):
        require_trainable(train(clusters={"poses": 16}), 30, 2, RuntimeConfig())


def test_fewer_pixels_than_landmarks() -> None:
    require_pixels(40, images=4, pixels=10)
    with pytest.raises(ConfigError, match="landmarks=41 is more than the 40 pixels"):
        require_pixels(41, images=4, pixels=10)
