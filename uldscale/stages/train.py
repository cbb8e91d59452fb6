"""The verb `train`: all stages of the schedule on the workers of Ray Train, with the relabel service beside them."""

import secrets
from functools import partial
from typing import Any

import numpy as np

from uldscale.data.index import ImageIndex
from uldscale.diffusion.extractor import FeatureConfig
from uldscale.runs import RunFolder
from uldscale.runtime import environment, trainer
from uldscale.runtime.alone import threads
from uldscale.runtime.cluster import connect, device
from uldscale.runtime.following import following
from uldscale.runtime.roles import RuntimeConfig
from uldscale.runtime.stopping import Stopping, preempted
from uldscale.stages.relabel import RelabelClient, Relabeller, relabel_service
from uldscale.stages.requirements import require_trainable
from uldscale.store.features import FeatureStore
from uldscale.training import checkpoints, outcome, symptoms, warnings
from uldscale.training.journal import RELABEL
from uldscale.training.loop import Training
from uldscale.training.rounds import Fit
from uldscale.training.schedule import TrainConfig


def train(
    config: TrainConfig,
    features: FeatureConfig,
    store_root: str,
    index: ImageIndex,
    border: float,
    run: RunFolder,
    runtime: RuntimeConfig,
) -> None:
    """Train what is not trained yet. Raises what `require_trainable` raises."""
    rows, store = index.rows("train"), FeatureStore.open(store_root)
    require_trainable(config, len(rows), store.spec.num_views, runtime)
    store.require_complete()
    warn_of_schedule(config, len(rows), run)
    if _finished(config, run):
        return
    connect(runtime)
    relabeller = Relabeller(config.clusters, run, seed=config.seed)
    plan = {
        "config": config.model_dump(mode="json"),
        "features": features.model_dump(mode="json"),
        "run": run.root,
        "store": store_root,
        "cache": runtime.cache,
        "rows": rows,
        "yaw": index.yaw(np.arange(len(index))),
        "border": border,
        "gpus": runtime.train.gpus,
    }
    if not runtime.ray:
        with threads(runtime.train.threads), environment.given(max(runtime.train.gpus, runtime.relabel.gpus)):
            _training(plan, relabeller).run_all()
        return
    stages = [RELABEL, *(stage.value for stage in config.stages)]
    name = f"relabel-{secrets.token_hex(4)}"
    with (
        relabel_service(relabeller, name, runtime) as service,
        following("train", run.progress, stages),
        warnings.following(run),
    ):
        trainer.fit(
            train_worker, {**plan, "service": service}, storage=run.workers, name="train", runtime=runtime,
            marks=partial(checkpoints.steps, run.checkpoints), stopping=Stopping(run.stop),
        )  # fmt: skip


def warn_of_schedule(config: TrainConfig, images: int, run: RunFolder) -> None:
    """What a run with so many training images may suffer from, told before its features are computed."""
    warnings.tell(run, "schedule", symptoms.of_schedule(config.in_steps(images), images))


def train_worker(plan: dict[str, Any]) -> None:
    """What every worker runs."""
    run = RunFolder(plan["run"])
    told = {"shown": False, "stop": Stopping(run.stop).wanted, "preempted": preempted}
    _training(plan, RelabelClient(plan["service"], run.labels), **told).run_all()


def _training(plan: dict[str, Any], fit: Fit, **told: Any) -> Training:
    return Training(
        config=TrainConfig.model_validate(plan["config"]),
        features=FeatureConfig.model_validate(plan["features"]),
        run=RunFolder(plan["run"]),
        store=FeatureStore.open(plan["store"], plan["cache"]),
        rows=np.asarray(plan["rows"]),
        yaw=np.asarray(plan["yaw"]),
        fit=fit,
        border=plan["border"],
        device=device(plan["gpus"]),
        **told,
    )


def _finished(config: TrainConfig, run: RunFolder) -> bool:
    steps = checkpoints.steps(run.checkpoints)
    trained = all(steps.get(stage) == config.of(stage).steps for stage in config.stages)
    return trained and all(outcome.is_kept(stage, run) for stage in config.stages)
