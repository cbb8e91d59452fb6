"""The training loop: a kill at any moment changes nothing; every method ends as a detector."""

import collections
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from uldscale import files
from uldscale.detector import LandmarkDetector
from uldscale.errors import IncompleteError, UserError
from uldscale.labels import Labels, latest_round
from uldscale.training import checkpoints
from uldscale.training.checkpoints import Position
from uldscale.training.loop import Training
from uldscale.training.schedule import Stage, TrainConfig

METHODS = [stage for stage in Stage if stage is not Stage.BOOTSTRAP]


class Killed(Exception):
    pass


def weights(training: Training, stage: Stage) -> dict[str, torch.Tensor]:
    path = files.join(training.run.method(stage.value), "network.safetensors")
    return safetensors.torch.load(files.read_bytes(path))


def losses(training: Training) -> dict[tuple[str, int], float]:
    """Loss by stage and step; a step that was done twice counts once, and must not differ."""
    found: dict[tuple[str, int], float] = {}
    for event in training.run.read_metrics():
        if event["event"] == "step":
            key = (event["stage"], event["step"])
            assert found.setdefault(key, event["loss"]) == event["loss"], key
    return found


@pytest.fixture(scope="module")
def whole(training_in: Callable[..., Training], tmp_path_factory: pytest.TempPathFactory) -> Training:
    """One finished training, which all tests of this file look at."""
    training = training_in(tmp_path_factory.mktemp("runs") / "whole")
    training.run_all()
    return training


@pytest.mark.parametrize("calls", [2, 6, 9, 13, 17, 21], ids=lambda calls: f"killed in step {calls}")
def test_n_steps_kill_m_steps(
    whole: Training,
    training_in: Callable[..., Training],
    content: Callable[[str], dict[str, bytes]],
    tmp_path: Path,
    calls: int,
) -> None:
    killed = training_in(tmp_path / "killed")
    kill_after(killed, calls)
    with pytest.raises(Killed):
        killed.run_all()
    resumed = training_in(tmp_path / "killed")
    resumed.run_all()
    assert losses(resumed) == losses(whole)
    for stage in METHODS:
        ours, theirs = weights(whole, stage), weights(resumed, stage)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours | theirs)
    assert content(resumed.run.labels) == content(whole.run.labels)


def test_a_wish_to_stop_is_met_with_a_checkpoint_where_it_came(
    whole: Training, training_in: Callable[..., Training], tmp_path: Path
) -> None:
    """Between two checkpoints, and the same command goes on from there."""
    config = whole.config.updated(checkpoint_every=1000)
    asked = iter([False] * 4 + [True] + [False] * 100)
    stopped = training_in(tmp_path / "stopped", config, stop=lambda: next(asked))
    with pytest.raises(IncompleteError, match="^interrupted; the same command goes on from here$"):
        stopped.run_all()
    assert checkpoints.steps(stopped.run.checkpoints) == {Stage.BOOTSTRAP: 3, Stage.D_ULD: 2}
    resumed = training_in(tmp_path / "stopped", config)
    resumed.run_all()
    assert losses(resumed) == losses(whole)


def test_a_node_that_will_go_away_is_worth_a_checkpoint_a_log_line(
    whole: Training, training_in: Callable[..., Training], tmp_path: Path
) -> None:
    """Nobody knows when it goes; training goes on until then."""
    committed: list[str] = []
    warned = training_in(tmp_path / "warned", whole.config.updated(checkpoint_every=1000), preempted=lambda: True)
    save = warned._save
    warned._save = lambda engine, position: (committed.append(position.name), save(engine, position))[1]  # type: ignore[method-assign]
    warned.run_all()
    assert committed[:3] == ["00-bootstrap-0000001", "00-bootstrap-0000002", "00-bootstrap-0000003"]
    assert losses(warned) == losses(whole)


def test_training_goes_on_while_a_round_is_fitted(
    training_in: Callable[..., Training], config: TrainConfig, tmp_path: Path
) -> None:
    """Labels change `overlap` steps later, also after a kill or a wish to stop in between; a stage begins with its own at once."""
    stage = {"steps": 6, "learning_rate": 1e-3, "relabel_every": 3}
    config = config.updated(
        d_uld=stage, d_uld_pp=stage, full_vae=None, mallis_d=None, control=None, overlap=2, checkpoint_every=1
    )
    seen: list[tuple[Stage, int, int | None]] = []
    whole = training_in(tmp_path / "whole", config)
    batches = whole.batches

    def watched(stage: Stage, steps: range, labels: Labels | None) -> object:
        seen.extend((stage, step, labels and labels.number) for step in steps)
        return batches(stage, steps, labels)

    whole.batches = watched  # type: ignore[assignment]
    whole.run_all()
    assert [number for stage, _, number in seen if stage is Stage.D_ULD] == [0, 0, 0, 0, 0, 1]
    assert [number for stage, _, number in seen if stage is Stage.D_ULD_PP] == [4, 4, 4, 4, 4, 5]
    for calls in (3 + 4, 3 + 5, 3 + 6, 3 + 6 + 3 + 5):
        folder = tmp_path / str(calls)
        killed = training_in(folder, config)
        kill_after(killed, calls)
        with pytest.raises(Killed):
            killed.run_all()
        asked = iter([False] * 2 + [True] * 100)
        with pytest.raises(IncompleteError):
            training_in(folder, config, stop=lambda asked=asked: next(asked)).run_all()
        resumed = training_in(folder, config)
        resumed.run_all()
        assert losses(resumed) == losses(whole)


def kill_after(training: Training, calls: int) -> None:
    """Let reading batches fail in the given step of the run, as a process that dies there."""
    batches, count = training.batches, 0

    def dying(*arguments: object) -> object:
        nonlocal count
        for batch in batches(*arguments):  # type: ignore[arg-type]
            count += 1
            if count == calls:
                raise Killed
            yield batch

    training.batches = dying  # type: ignore[assignment]


def test_methods_are_detectors(whole: Training) -> None:
    for stage in METHODS:
        detector = LandmarkDetector.from_pretrained(whole.run.method(stage.value))
        maps = whole.reader.read(whole.rows[:3], whole.rows[:3] * 0)
        found = detector.locate({name: torch.from_numpy(values) for name, values in maps.items()})
        assert found.points.shape == (3, 3, 2)
        known = found.points[~torch.from_numpy(found.points).isnan().any(-1).numpy()]
        assert ((known > 0.1 - 1 / 16) & (known < 0.9 + 1 / 16)).all()


def test_a_finished_run_does_nothing(whole: Training, training_in: Callable[..., Training]) -> None:
    before = len(whole.run.read_metrics())
    training_in(Path(whole.run.root)).run_all()
    assert len(whole.run.read_metrics()) == before


def test_a_detector_that_was_lost_is_made_again(
    whole: Training, training_in: Callable[..., Training], content: Callable[[str], dict[str, bytes]], tmp_path: Path
) -> None:
    shutil.copytree(whole.run.root, tmp_path / "run")
    again = training_in(tmp_path / "run")
    files.remove(again.run.methods)
    again.run_all()
    assert content(again.run.methods) == content(whole.run.methods)
    assert len(again.run.read_metrics()) == len(whole.run.read_metrics())


def test_what_another_detector_has_found_goes_with_it(
    whole: Training, training_in: Callable[..., Training], tmp_path: Path
) -> None:
    """Labels and checkpoints are removed, as a damaged one asks for, and the stage is trained again."""
    shutil.copytree(whole.run.root, tmp_path / "run")
    again = training_in(tmp_path / "run")
    for name in ("predictions.parquet", "probe.safetensors", "parts/0"):
        files.write_bytes(files.join(again.run.method("d_uld"), name), b"old")
    files.remove(again.run.checkpoints)
    files.remove(again.run.labels)
    again.run_all()
    assert sorted(files.names(again.run.method("d_uld"))) == sorted(files.names(whole.run.method("d_uld")))


def test_rounds(whole: Training) -> None:
    """At the start, every second step and at the end; in the pose proxy at its end."""
    rounds = [event for event in whole.run.read_metrics() if event["event"] == "relabel"]
    assert collections.Counter(event["stage"] for event in rounds) == {
        "d_uld": 3, "d_uld_pose_proxy": 1, "d_uld_pp": 3, "full_vae": 3, "mallis_d": 3, "control": 3,
    }  # fmt: skip
    assert [event["round"] for event in rounds] == list(range(16))


def test_baselines_leave_no_trace(whole: Training, training_in: Callable[..., Training], tmp_path: Path) -> None:
    """A stage starts from its parent, whatever ran in between, and may come in later."""
    alone = training_in(
        tmp_path / "alone", whole.config.model_copy(update={"full_vae": None, "mallis_d": None, "control": None})
    )
    alone.run_all()
    assert {key for key in losses(whole) if key not in losses(alone)} == {
        (stage, step) for stage in ("full_vae", "mallis_d", "control") for step in range(1, 5)
    }
    assert all(losses(whole)[key] == loss for key, loss in losses(alone).items())
    only = training_in(tmp_path / "only", whole.config.model_copy(update={"full_vae": None}))
    only.run_all()
    assert losses(only)["mallis_d", 4] == losses(whole)["mallis_d", 4]
    later = training_in(tmp_path / "only")
    later.run_all()
    assert losses(later) == losses(whole)


def test_a_network_that_is_lost_is_the_users_turn(training_in: Callable[..., Training], tmp_path: Path) -> None:
    """Told in the first step, and no checkpoint of it is kept."""
    training = training_in(tmp_path / "lost")
    with torch.no_grad():
        next(training.network.descriptor.parameters()).fill_(torch.nan)
    with pytest.raises(
        UserError, match="stage bootstrap is not a number in step 1; lower train.bootstrap.learning_rate"
    ):
        training.run_all()
    assert checkpoints.all_of(training.run.checkpoints) == []


def test_a_gradient_that_is_lost_is_told_before_its_step_is_kept(
    training_in: Callable[..., Training], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = training_in(tmp_path / "lost")
    # The losses of a step are computed before it.
    next(training.network.descriptor.parameters()).register_hook(lambda gradient: gradient * torch.nan)
    with pytest.raises(UserError, match="diverged: the gradient of stage bootstrap is not a number in step"):
        training.run_all()
    assert checkpoints.all_of(training.run.checkpoints) == []


def test_a_checkpoint_without_state_does_not_count(tmp_path: object) -> None:
    folder = str(tmp_path)
    done = Position(Stage.D_ULD, 500, 3)
    files.write_bytes(files.join(folder, done.name, "engine.safetensors"), b"")
    checkpoints.commit(folder, done)
    later = Position(Stage.D_ULD, 1000, 4)
    files.write_bytes(files.join(folder, later.name, "engine.safetensors"), b"")
    assert checkpoints.last_of(folder, Stage.D_ULD) == done
    assert checkpoints.last_of(folder, Stage.BOOTSTRAP) is None
    for step in (1000, 1500, 2000):
        checkpoints.commit(folder, Position(Stage.D_ULD, step, 4))
    assert files.names(folder) == [Position(Stage.D_ULD, step, 4).name for step in (1500, 2000)]


def test_the_last_checkpoint_of_a_stage_stays(tmp_path: object) -> None:
    folder = str(tmp_path)
    end = Position(Stage.BOOTSTRAP, 100, -1)
    for position in (end, *(Position(Stage.D_ULD, step, 4) for step in (1000, 1500, 2000))):
        checkpoints.commit(folder, position)
    assert checkpoints.last_of(folder, Stage.BOOTSTRAP) == end
    assert [position.step for position in checkpoints.all_of(folder)] == [100, 1500, 2000]


def test_positions_sort_by_time() -> None:
    positions = [Position(stage, step, 0) for stage in Stage for step in (0, 5, 100_000)]
    assert sorted(position.name for position in positions) == [position.name for position in positions]


def test_workers_that_outlived_others_commit_nothing(training_in: Callable[..., Training], tmp_path: Path) -> None:
    """Neither a checkpoint nor a round of labels; those that started later end as if there had been no others."""
    old = training_in(tmp_path / "run")
    kill_after(old, 3)
    with pytest.raises(Killed):
        old.run_all()
    training_in(tmp_path / "run")
    before = checkpoints.all_of(old.run.checkpoints), latest_round(old.run.labels)
    for _ in range(2):
        with pytest.raises(IncompleteError, match="workers that started later go on with this run"):
            old.run_all()
    assert (checkpoints.all_of(old.run.checkpoints), latest_round(old.run.labels)) == before
