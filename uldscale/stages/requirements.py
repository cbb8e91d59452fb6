"""What a run needs to be trained, and what never helped one: told before its features are computed."""

from collections.abc import Iterator

from uldscale.errors import ConfigError, DataError
from uldscale.runtime import environment
from uldscale.runtime.roles import RuntimeConfig
from uldscale.training.relabelling import held_bytes
from uldscale.training.schedule import CLUSTERING, TrainConfig

LONGEST_EPOCHS = 20.0
"""Beyond what was ever of use: stages of 2 to 6 epochs were best on faces, and after 10 a network knows its own labels by heart."""


def require_trainable(config: TrainConfig, images: int, views: int, runtime: RuntimeConfig) -> None:
    """What a run of so many training images needs.

    Raises DataError when there are fewer training images than a batch or poses, ConfigError for views, workers or
    memory that don't do.
    """
    for name, wanted in (("batch", config.batch), ("clusters.poses", config.clusters.poses)):
        if images < wanted:
            raise DataError(
                f"{images} usable training images are fewer than train.{name} = {wanted}; add images or lower it"
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


def long_stages(config: TrainConfig, images: int) -> Iterator[str]:
    """A sentence for each stage with labels that is far longer than any that helped, so many training images given."""
    in_steps = config.in_steps(images)
    for stage in config.stages:
        epochs = in_steps.of(stage).steps * config.batch / images
        # Bootstrap has no labels of its own to learn by heart.
        if stage in CLUSTERING and epochs > LONGEST_EPOCHS:
            yield (
                f"train.{stage} has {epochs:,.0f} epochs of {images:,} images; stages of 2 to 6 were best, and after 10 a network knows "
                f"its own labels by heart: train.{stage}.steps=null train.{stage}.epochs=6 is enough"
            )


def _require_room(config: TrainConfig, images: int, memory: float | None) -> None:
    """For the sample of a round, in the GiB that the relabel service reserves."""
    wanted = (environment.PROCESS_BYTES + held_bytes(config, images)) / 2**30
    if memory is not None and memory < wanted:
        raise ConfigError(
            f"the relabel service will hold {wanted:.1f} GiB of train.clusters.sample={config.clusters.sample:,} descriptors, got "
            f"runtime.relabel.memory_gib={memory:g}; raise this one or lower that one"
        )
