"""The run folder: its places, its log, and what happens when a run goes on."""

import importlib.metadata
import json
import os
import pickle
import platform
import resource
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uldscale import files
from uldscale.errors import ConfigError
from uldscale.locks import locked
from uldscale.runs import RunFolder

SETTINGS: dict[str, Any] = {
    "name": "müller",
    "data": {"size": 128, "train": "faces"},
    "train": {"batch": 12},
    "runtime": {"extract": {"count": 1}},
}


def identity(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: settings[key] for key in ("data", "train") if key in settings}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run that was created, but for the slow list of packages."""
    run = RunFolder(str(tmp_path))
    run.write_config(SETTINGS)
    return run


def test_places(tmp_path: Path) -> None:
    run = RunFolder(str(tmp_path))
    places = {
        run.config: "config.yaml",
        run.environment: "environment.json",
        run.metrics: "metrics.jsonl",
        run.index: "index.parquet",
        run.store: "store.zarr",
        run.labels: "labels",
        run.checkpoints: "checkpoints",
        run.workers: "workers",
        run.method("d_uld"): "methods/d_uld",
        run.model: "model",
        run.result: "result.json",
        run.report: "report.html",
    }
    assert {place: str(tmp_path / name) for place, name in places.items()} == {place: place for place in places}
    assert pickle.loads(pickle.dumps(run)) == run


def test_config_round_trip(run: RunFolder) -> None:
    assert run.read_config() == SETTINGS
    assert "müller" in Path(run.config).read_text("utf-8")


def test_creating_a_run(tmp_path: Path) -> None:
    run = RunFolder.create(str(tmp_path / "runs" / "new"), SETTINGS, identity)
    assert run.read_config() == SETTINGS
    assert run.read_metrics() == []
    environment = json.loads(Path(run.environment).read_text())
    assert environment["python"] == platform.python_version()
    assert environment["packages"]["numpy"] == importlib.metadata.version("numpy")
    assert environment["cpus"] >= 1


def test_a_run_goes_on(run: RunFolder) -> None:
    run.log(event="step", step=1)
    again = RunFolder.create(run.root, {**SETTINGS, "runtime": {"extract": {"count": 8}}}, identity)
    assert again.read_config()["runtime"] == {"extract": {"count": 8}}
    assert [event["step"] for event in again.read_metrics()] == [1]


def test_another_run_is_refused_with_the_difference(run: RunFolder) -> None:
    changed = {"data": {"size": 256, "train": "faces"}, "train": {"batch": 12, "seed": 0}}
    files.write_bytes(files.join(run.checkpoints, "x"), b"")
    with pytest.raises(
        ConfigError, match="data.size: the run has 128, this job wants 256; train.seed: the run has None, .* 0; set"
    ):
        RunFolder.create(run.root, {**SETTINGS, **changed}, identity)
    assert run.read_config() == SETTINGS


def test_a_part_may_come_in_later_but_not_change_or_go(run: RunFolder) -> None:
    without, given, other = ({"train": {"full_vae": part}} for part in (None, {"steps": 4}, {"steps": 5}))
    run.write_config(without)
    files.write_bytes(files.join(run.checkpoints, "x"), b"")
    RunFolder.create(run.root, given, identity)
    for settings in (other, without):
        with pytest.raises(ConfigError, match="train.full_vae"):
            RunFolder.create(run.root, settings, identity)


def test_where_nothing_was_computed_there_is_nothing_to_protect(run: RunFolder) -> None:
    files.write_bytes(run.index, b"")
    RunFolder.create(run.root, SETTINGS, identity)
    assert files.exists(run.index)
    RunFolder.create(run.root, {**SETTINGS, "data": {"train": "other"}}, identity)
    assert not files.exists(run.index)
    assert run.read_config()["data"] == {"train": "other"}


@pytest.mark.parametrize("root", ["s3://bucket/run", "file"])
def test_the_output_must_be_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="must be a folder on a local or mounted disk"):
        RunFolder.create(root, SETTINGS, identity)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# The log


def test_events_come_back_in_order(run: RunFolder) -> None:
    assert run.read_metrics() == []
    for step in range(3):
        run.log(event="step", step=step, loss=0.5)
    events = run.read_metrics()
    assert [(event["event"], event["step"], event["loss"]) for event in events] == [
        ("step", step, 0.5) for step in range(3)
    ]
    assert sorted(event["time"] for event in events) == [event["time"] for event in events]


def test_numbers_are_finite_or_null(run: RunFolder) -> None:
    run.log(
        event="x",
        nan=float("nan"),
        scalar=np.float32("inf"),
        integer=np.int64(3),
        array=np.array([1.0, -np.inf]),
        nested={"deep": [np.float64("nan"), (1, True, None, "word")], 7: 1},
    )
    event = run.read_metrics()[0]
    del event["time"]
    assert event == {
        "event": "x",
        "nan": None,
        "scalar": None,
        "integer": 3,
        "array": [1.0, None],
        "nested": {"deep": [None, [1, True, None, "word"]], "7": 1},
    }


def test_threads_do_not_mix_their_lines(run: RunFolder) -> None:
    def work(worker: int) -> None:
        for number in range(50):
            run.log(event="x", worker=worker, number=number, text="y" * 20_000)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = run.read_metrics()
    assert len(Path(run.metrics).read_bytes().splitlines()) == 200
    for worker in range(4):
        assert [event["number"] for event in events if event["worker"] == worker] == list(range(50))


def test_a_line_torn_by_a_kill(run: RunFolder) -> None:
    run.log(event="x", step=1)
    whole = Path(run.metrics).read_bytes()
    for end in range(len(whole)):
        Path(run.metrics).write_bytes(whole + whole[:end])
        assert len(run.read_metrics()) == 1 + (end == len(whole) - 1)


def test_a_line_that_the_disk_takes_only_half_of_is_an_error(run: RunFolder) -> None:
    """Else the next line would be glued to it, and both be lost."""
    run.log(event="whole")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(run.metrics) + 20, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            run.log(event="torn", words="more than twenty bytes")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [event["event"] for event in run.read_metrics()] == ["whole"]


def test_the_next_run_goes_on_behind_a_torn_line(run: RunFolder) -> None:
    run.log(event="x", step=1)
    with open(run.metrics, "ab") as file:
        file.write(b'{"time": 3, "ev')
    again = RunFolder.create(run.root, SETTINGS, identity)
    again.log(event="x", step=2)
    assert [event["step"] for event in again.read_metrics()] == [1, 2]


def test_a_second_process_cuts_nothing_off(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A running one may log between its look at the file and what it does about it."""
    read = files.read_bytes

    def read_before_the_other_logs(path: str) -> bytes:
        content = read(path)
        run.log(event="x", step=2)
        return content

    run.log(event="x", step=1)
    with monkeypatch.context() as patched:
        patched.setattr(files, "read_bytes", read_before_the_other_logs)
        run._end_torn_line()
    assert [event["step"] for event in run.read_metrics()] == [1, 2]


def test_a_round_that_was_made_again_counts_once(run: RunFolder) -> None:
    for number, churn, stage in ((1, 0.5, "d_uld"), (2, 0.2, "d_uld"), (2, 0.1, "d_uld"), (3, 0.9, "d_uld_pp")):
        run.log(event="relabel", stage=stage, round=number, churn=churn)
    assert [(event["round"], event["churn"]) for event in run.rounds("d_uld")] == [(1, 0.5), (2, 0.1)]


def test_seconds_are_booked_by_stage(run: RunFolder) -> None:
    with run.timed("extract"):
        pass
    with pytest.raises(KeyError), run.timed("extract"):
        raise KeyError
    run.log(event="timed", stage="train", seconds=1.25)
    run.log(event="timed", stage="train", seconds=2.5)
    run.log(event="step", seconds=9)
    assert run.seconds()["train"] == 3.75
    assert run.seconds()["extract"] >= 0
    assert len(run.read_metrics()) == 5


def test_publishing_a_method(run: RunFolder) -> None:
    folder = Path(run.method("d_uld_pp"))
    folder.mkdir(parents=True)
    for name in ("config.json", "network.safetensors", "predictions.parquet"):
        (folder / name).write_text(name)
    for _ in range(2):
        run.publish("d_uld_pp")
        assert {path.name: path.read_text() for path in Path(run.model).iterdir()} == {
            "config.json": "config.json",
            "network.safetensors": "network.safetensors",
        }


def test_names_of_landmarks_outlive_publishing(run: RunFolder) -> None:
    files.write_json(files.join(run.method("d_uld_pp"), "config.json"), {"names": None, "border": 0.1})
    run.publish("d_uld_pp")
    files.write_json(files.join(run.model, "config.json"), {"names": ["nose", "chin"], "border": 0.2})
    run.publish("d_uld_pp")
    assert files.read_json(files.join(run.model, "config.json")) == {"names": ["nose", "chin"], "border": 0.1}


def test_a_run_that_has_nothing_yet_but_a_process_at_it_is_not_another_ones(run: RunFolder) -> None:
    run.write_config(SETTINGS)
    changed = {**SETTINGS, "data": {"train": "other"}}
    with locked(run.root), pytest.raises(ConfigError, match="holds a run with other settings"):
        RunFolder.create(run.root, changed, identity)
    assert run.read_config() == SETTINGS
    RunFolder.create(run.root, changed, identity)


def test_an_installation_without_a_name_is_left_out(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an interrupted one leaves it behind."""
    (tmp_path / "x-1.0.dist-info").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    run.write_environment()
    assert None not in files.read_json(run.environment)["packages"]
