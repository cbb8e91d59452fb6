"""The command line: what a user gets wrong gives one clear line and exit code 2; nothing is lost."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import uldscale
from uldscale import cli


def run(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["uldscale", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    code = ended.value.code
    return code if isinstance(code, int) else 0


def job(folder: Path, **data: object) -> str:
    path = folder / "job.yaml"
    settings = {
        "name": "x",
        "output": str(folder / "runs"),
        "data": {"kind": "folder", "train": str(folder / "images")} | data,
    }
    path.write_text(yaml.safe_dump(settings))
    return str(path)


def images(folder: Path, count: int = 3) -> Path:
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    for number in range(count):
        Image.fromarray(random.integers(0, 255, (40, 40, 3), np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize("asked", ["--version", "-h", "--help"])
def test_what_it_says_of_itself(
    asked: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(asked, monkeypatch=monkeypatch) == 0
    said = capsys.readouterr().out
    assert (f"uldscale {uldscale.__version__}" if asked == "--version" else "without annotations") in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nowhere.yaml"], "job file 'nowhere.yaml' is not there"),
        (["run", "a.yaml", "--name=x"], "settings have no dashes; give name=x"),
        (["plan", "a.yaml", "--train.batch=4"], "settings have no dashes; give train.batch=4"),
        (["status", "nowhere"], "is not a run folder"),
        (["store", "info", "nowhere"], "no feature store"),
        (["store", "verify", "nowhere"], "no feature store"),
        (["predict", "nowhere", "a.png"], "is not a model folder"),
        (["pretrain", "nowhere.yaml"], "job file 'nowhere.yaml' is not there"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_what_is_not_there(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments, monkeypatch=monkeypatch) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_missing_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("index", job(tmp_path), monkeypatch=monkeypatch) == 2
    assert str(tmp_path / "images") in capsys.readouterr().err


def test_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "images").mkdir()
    assert run("index", job(tmp_path), monkeypatch=monkeypatch) == 2
    assert "no image" in capsys.readouterr().err


def test_unknown_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    images(tmp_path / "images")
    assert run("index", job(tmp_path), "data.sise=64", monkeypatch=monkeypatch) == 2
    assert "unknown key 'data.sise'; did you mean 'data.size'?" in capsys.readouterr().err


def test_broken_images_are_quarantined_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = images(tmp_path / "images")
    (folder / "text.jpg").write_text("no picture")
    whole = (folder / "0.png").read_bytes()
    (folder / "torn.png").write_bytes(whole[: len(whole) // 2])
    run("index", job(tmp_path), monkeypatch=monkeypatch)
    output = capsys.readouterr().out
    assert "3 train and 0 test images, 2 quarantined" in output
    assert "text" in output
    assert "torn" in output


def test_another_run_of_the_same_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images(tmp_path / "images")
    run("index", job(tmp_path), monkeypatch=monkeypatch)
    (tmp_path / "runs/x/methods").mkdir()
    capsys.readouterr()
    assert run("index", job(tmp_path), "data.size=64", monkeypatch=monkeypatch) == 2
    assert "data.size: the run has 128, this job wants 64" in capsys.readouterr().err


def test_what_happens_to_images_of_a_run_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is computed they are indexed again; later the run goes on with those that it has."""
    images(tmp_path / "images", 3)
    settings = ["runtime.ray=false", "train.batch=100"]
    run("index", job(tmp_path), *settings, monkeypatch=monkeypatch)
    images(tmp_path / "images", 4)
    assert run("run", job(tmp_path), *settings, monkeypatch=monkeypatch) == 2
    said = capsys.readouterr()
    assert "1 images are new since this run was indexed, such as 3" in said.err
    assert "indexing again" in said.err
    assert "index: 4 train and 0 test images" in said.out
    run("index", job(tmp_path), *settings, monkeypatch=monkeypatch)
    (tmp_path / "runs/x/methods").mkdir()
    images(tmp_path / "images", 5)
    capsys.readouterr()
    assert run("run", job(tmp_path), *settings, monkeypatch=monkeypatch) == 2
    said = capsys.readouterr()
    assert "warning: 1 images are new since this run was indexed, such as 4" in said.err
    assert "give the job another name" in said.err
    assert said.err.splitlines()[-1].startswith("uldscale: 4 usable training images are fewer than train.batch = 100")


def test_numbers_that_cannot_be_are_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images(tmp_path / "images")
    assert run("run", job(tmp_path), "train.clusters.landmarks=400", monkeypatch=monkeypatch) == 2
    error = capsys.readouterr().err.splitlines()
    assert "train.clusters.landmarks=400 is more than the 64 keypoints" in error[-1]
    assert not (tmp_path / "runs").exists()


def test_how_much_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    images(tmp_path / "images")
    monkeypatch.setenv("ULDSCALE_LOG_LEVEL", "info")  # Set again at the end of the test.
    assert run("--log-level", "warning", "index", job(tmp_path), "runtime.ray=false", monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().err == ""
    assert run("--log-level", "loud", "index", job(tmp_path), monkeypatch=monkeypatch) == 2


def test_too_few_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    images(tmp_path / "images")
    assert run("train", job(tmp_path), monkeypatch=monkeypatch) == 2
    assert "feature store" in capsys.readouterr().err


def test_a_place_that_cannot_be_used_is_the_users_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file where the folder of runs should be; a name that no file system takes; a report before there is anything to report."""
    images(tmp_path / "images")
    (tmp_path / "runs").write_text("")
    assert run("index", job(tmp_path), monkeypatch=monkeypatch) == 2
    assert "Not a directory; give another place" in capsys.readouterr().err
    assert run("index", job(tmp_path), f"output={tmp_path}/{'x' * 300}", monkeypatch=monkeypatch) == 2
    assert "File name too long" in capsys.readouterr().err
    assert run("index", job(tmp_path), "output=/proc/nowhere", monkeypatch=monkeypatch) == 2
    assert "give another place" in capsys.readouterr().err
    assert run("report", job(tmp_path), f"output={tmp_path}/new", "runtime.ray=false", monkeypatch=monkeypatch) == 3
    assert "has no result.json yet; `uldscale evaluate` the same job first" in capsys.readouterr().err


def test_a_full_disk_is_the_users_turn(tmp_path: Path) -> None:
    """On a real file system of 64 KiB, which somebody filled."""
    images(tmp_path / "images")
    full = tmp_path / "runs"
    full.mkdir()
    mount = ["unshare", "-rm", "sh", "-c", f"mount -t tmpfs -o size=64k none {full}"]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a file system of their own")
    fill = f"head -c 65536 /dev/zero > {full}/zeros"
    run_index = f"exec {sys.executable} -m uldscale.cli index {job(tmp_path)}"
    done = subprocess.run([*mount[:-1], f"{mount[-1]} && {fill}; {run_index}"], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("uldscale: the disk is full: [Errno 28] No space left on device")
    assert done.stderr.endswith("; make room and run the command again\n")
    assert done.stderr.count("\n") == 1


def test_help_names_every_verb() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "uldscale.cli", "--help"],
        check=True,
        capture_output=True,
        text=True,
        env={"COLUMNS": "120"},
    ).stdout
    for verb in (
        "demo",
        "run",
        "index",
        "extract",
        "train",
        "evaluate",
        "report",
        "predict",
        "plan",
        "status",
        "store",
        "pretrain",
    ):
        assert verb in shown
