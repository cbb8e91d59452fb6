"""A job that `init` wrote: what it says is true, and it runs to its end."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from uldscale import files
from uldscale.data import faces3d
from uldscale.errors import DataError, UserError
from uldscale.job import load_job
from uldscale.pipeline import Pipeline
from uldscale.verbs.init import init
from uldscale.verbs.proposal import Wishes

SHORT = [
    "runtime.ray=false", "extract.features.timesteps=[50]", "extract.features.codec.channels=8", "extract.views.count=2",
    "train.network.grid=16", "train.network.aggregator.hidden=8", "train.network.aggregator.width=12",
    "train.network.heads.descriptor=8", "train.network.vae.latent=6", "train.network.vae.width=4",
    "zero_shot.fit_images=8", "zero_shot.pixels=60", "train.warmup_steps=2",
    *(f"train.{stage}.epochs=0.5" for stage in ("bootstrap", "d_uld", "d_uld_pose_proxy", "d_uld_pp")),
    "train.d_uld.relabel_epochs=0.25", "train.d_uld_pp.relabel_epochs=0.25",
]  # fmt: skip


def faces(folder: Path, first: int, count: int) -> Path:
    folder.mkdir(parents=True)
    for seed in range(first, first + count):
        Image.fromarray(faces3d.render(seed, size=64).image).save(folder / f"{seed}.png")
    return folder


def written(place: Path, path: Path, wishes: Wishes = Wishes(), **given: str) -> str:  # noqa: B008
    init(str(place), str(path), test=given.get("test"), images=given.get("images"), wishes=wishes, force=False)
    return path.read_text()


def test_it_runs_to_its_end(tmp_path: Path, tiny_model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of two folders; nothing but lengths and widths is changed for the sake of time."""
    monkeypatch.chdir(tmp_path)
    faces(tmp_path / "heads/train", 0, 16)
    faces(tmp_path / "heads/test", 100, 6)
    text = written(tmp_path / "heads", tmp_path / "job.yaml", Wishes(model=tiny_model, landmarks=4))
    assert "16 training and 6 test images of kind folder, 64 pixels a side" in text
    assert "16 training images are few" in text
    job = load_job("job.yaml", SHORT)
    assert (job.name, job.data.size, job.train.clusters.landmarks) == ("heads", 64, 4)
    result = Pipeline(job).run_all()
    assert set(result["methods"]) == {"zero_shot", "d_uld", "d_uld_pose_proxy", "d_uld_pp"}
    assert files.exists("runs/heads/model/config.json")


def test_a_job_that_is_there_is_kept(tmp_path: Path) -> None:
    faces(tmp_path / "heads", 0, 2)
    (tmp_path / "job.yaml").write_text("mine")
    with pytest.raises(UserError, match=r"job.yaml is there already; .*--force"):
        written(tmp_path / "heads", tmp_path / "job.yaml")
    assert (tmp_path / "job.yaml").read_text() == "mine"


def test_no_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not there"):
        written(tmp_path / "heads", tmp_path / "job.yaml")


def test_a_list_and_boxes(tmp_path: Path, tiny_model: str) -> None:
    faces(tmp_path / "heads", 0, 3)
    (tmp_path / "some.txt").write_text("heads/0.png\nheads/2.png\n")
    (tmp_path / "boxes.json").write_text(json.dumps({"heads/0": [0, 0, 60, 60]}))
    wishes = Wishes(model=tiny_model, boxes=str(tmp_path / "boxes.json"))
    written(tmp_path / "some.txt", tmp_path / "job.yaml", wishes)
    job = load_job(str(tmp_path / "job.yaml"), [])
    assert (job.data.kind, job.data.train, job.name) == ("list", str(tmp_path / "some.txt"), "some")
    assert (job.data.roi.provider, job.data.roi.file) == ("file", str(tmp_path / "boxes.json"))


def test_the_boxes_of_annotations_are_used(tmp_path: Path, tiny_model: str) -> None:
    faces(tmp_path / "images", 0, 2)
    content = {
        "images": [{"id": number, "file_name": f"{number}.png"} for number in range(2)],
        "annotations": [{"id": number, "image_id": number, "bbox": [4, 4, 50, 50]} for number in range(2)],
    }
    (tmp_path / "cats.json").write_text(json.dumps(content))
    text = written(tmp_path / "cats.json", tmp_path / "job.yaml", Wishes(model=tiny_model))
    assert load_job(str(tmp_path / "job.yaml"), []).data.roi.provider == "annotation"
    assert "whether each image shows" not in text


def parts_on_a_belt(folder: Path, count: int) -> Path:
    """Two dark discs on white in each image."""
    folder.mkdir()
    y, x = np.mgrid[:120, :120]
    for number in range(count):
        image = np.full((120, 120, 3), 250, np.uint8)
        for left in (30, 85):
            image[(y - 60 - number) ** 2 + (x - left) ** 2 < 18**2] = 40
        Image.fromarray(image).save(folder / f"{number}.png")
    return folder


def test_several_objects_and_much_background_are_told(tmp_path: Path, tiny_model: str) -> None:
    parts_on_a_belt(tmp_path / "belt", 4)
    text = " ".join(
        written(tmp_path / "belt", tmp_path / "job.yaml", Wishes(model=tiny_model)).replace("#", "").split()
    )
    assert "in 4 of 4 opened images several separate things stand on a background of one colour" in text
    assert "in 4 of 4 opened images a background of one colour takes more than 60 % of the area" in text


def test_photographs_and_copies_are_told(tmp_path: Path, tiny_model: str) -> None:
    (tmp_path / "holiday").mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (60, 90, 3), np.uint8)
    for number in range(3):
        Image.fromarray(noise).save(tmp_path / f"holiday/{number}.png")
    text = " ".join(
        written(tmp_path / "holiday", tmp_path / "job.yaml", Wishes(model=tiny_model)).replace("#", "").split()
    )
    assert "3 of 3 opened images are far from square" in text
    assert "2 of 3 opened images are copies of others" in text


def test_names_of_files_stay_in_comments(tmp_path: Path, tiny_model: str) -> None:
    """A name is free to have a line break."""
    place = faces(tmp_path / "heads\nname: other", 0, 2)
    (place / "a\nb.png").write_bytes(b"no image")
    written(place, tmp_path / "job.yaml", Wishes(model=tiny_model))
    assert load_job(str(tmp_path / "job.yaml"), []).name == "heads-name-other"
