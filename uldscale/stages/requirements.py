"""What a run needs to be trained, told before its features are computed."""

from uldscale.errors import ConfigError, DataError
from uldscale.runtime import environment
from uldscale.runtime.roles import RuntimeConfig
from uldscale.training.relabelling import held_bytes
from uldscale.training.schedule import TrainConfig


def require_trainable(config: TrainConfig, images: int, views: int, runtime: RuntimeConfig) -> None:
    """What a run of so many training images needs.

    Raises DataError when there are fewer training images than a batch or than two a pose, ConfigError for views, workers or
    memory that don't do.
    """
    if images < config.batch:
        raise DataError(
            f"{images} usable training images are fewer than train.batch = {config.batch}; add images or lower it"
        )
    if images < 2 * config.clusters.poses:
        raise DataError(
            f"{images} usable training images are fewer than two for each of train.clusters.poses = {config.clusters.poses}, whose images "
            "are compared; add images or lower it"
        )
    if views < 2:
        raise ConfigError(f"training compares views, got extract.views.count={views}; set it to 2 or more")
    if config.batch < runtime.train.count:
        raise ConfigError(
            f"train.batch={config.batch} leaves workers without an image, got runtime.train.count={runtime.train.count}; raise it or "
            "take fewer"
        )
    _require_room(config, images, runtime.relabel.memory_gib)


def require_pixels(landmarks: int, images: int, pixels: int) -> None:
    """Raises ConfigError when the ZeroShot baseline clusters fewer pixels than it shall find landmarks."""
    if images * pixels < landmarks:
        raise ConfigError(
            f"train.clusters.landmarks={landmarks} is more than the {images * pixels} pixels that ZeroShot clusters; raise "
            "zero_shot.fit_images or zero_shot.fit_pixels, or lower it"
        )


def _require_room(config: TrainConfig, images: int, memory: float | None) -> None:
    """For the sample of a round, in the GiB that the relabel service reserves."""
    wanted = (environment.PROCESS_BYTES + held_bytes(config, images)) / 2**30
    if memory is not None and memory < wanted:
        raise ConfigError(
            f"the relabel service will hold {wanted:.1f} GiB of train.clusters.sample={config.clusters.sample:,} descriptors, got "
            f"runtime.relabel.memory_gib={memory:g}; raise this one or lower that one"
        )
