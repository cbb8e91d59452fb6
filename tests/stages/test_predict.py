"""Landmarks on people's files: what cannot be used is named, everything else is found."""

import json
import os
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from uldscale import cli
from uldscale.data.faces3d import render
from uldscale.data.videos import frames
from uldscale.errors import DataError, IncompleteError
from uldscale.formats import FORMATS
from uldscale.job import Job
from uldscale.pipeline import Pipeline
from uldscale.stages.pictures import list_records
from uldscale.stages.predict import predict

FACE = render(5_000_000, size=64).image


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    Image.fromarray(FACE).save(folder / "a.png")
    Image.fromarray(FACE).resize((128, 256)).save(folder / "sub" / "a.png")
    return folder


def found(path: Path) -> dict[str, list[list[float]]]:
    """Landmarks that are there, by image."""
    return {id: [point for point in points if point] for id, points in json.loads(path.read_text())["images"].items()}


def test_pixels_of_images_of_any_size(untrained: str, images: Path, tmp_path: Path) -> None:
    predict(untrained, [str(images)], format="json", output=str(tmp_path / "o.json"), overlay=str(tmp_path / "drawn"))
    points = found(tmp_path / "o.json")
    assert list(points) == ["a", "sub/a"]
    assert points["a"]
    np.testing.assert_allclose(np.array(points["sub/a"]) / [2, 4], points["a"], atol=1)
    drawn = sorted(str(path.relative_to(tmp_path / "drawn")) for path in (tmp_path / "drawn").rglob("*.png"))
    assert drawn == ["a.png", "sub/a.png"]
    assert max(Image.open(tmp_path / "drawn/a.png").size) == 512


def test_what_is_broken_is_named_and_the_others_go_on(
    untrained: str, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "broken.png").write_text("no picture")
    with pytest.raises(IncompleteError, match=r"1 images or videos have no landmarks, .*broken.png: not an image"):
        predict(untrained, [str(images)], format="json", output=str(tmp_path / "o.json"))
    assert list(found(tmp_path / "o.json")) == ["a", "sub/a"]
    said = capsys.readouterr().err
    assert f"{images}/broken.png: not an image" in said
    assert "predict: 3/3" in said


def test_urls_that_cannot_be_opened_are_named_and_the_others_go_on(
    untrained: str, images: Path, tmp_path: Path
) -> None:
    given = ["ftp://nowhere.invalid/b.png", "http://127.0.0.1:9/c.png", str(images)]
    with pytest.raises(
        IncompleteError, match=r"2 images .*ftp://.*wanted a path or a URL of .*c.png: the file cannot be read"
    ):
        predict(untrained, given, format="json", output=str(tmp_path / "o.json"))
    assert list(found(tmp_path / "o.json")) == ["a", "sub/a"]


def test_nothing_is_overwritten_when_nothing_is_found(untrained: str, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_text("no picture")
    (tmp_path / "o.csv").write_text("before")
    with pytest.raises(IncompleteError):
        predict(untrained, [str(tmp_path / "broken.png")], output=str(tmp_path / "o.csv"))
    assert (tmp_path / "o.csv").read_text() == "before"


def test_a_name_as_long_as_file_systems_allow(untrained: str, tmp_path: Path) -> None:
    name = "x" * 251
    Image.fromarray(FACE).save(tmp_path / f"{name}.jpg")
    predict(untrained, [str(tmp_path)], output=str(tmp_path / "o.csv"), overlay=str(tmp_path / "drawn"))
    assert os.listdir(tmp_path / "drawn") == [f"{name}.png"]


def test_boxes_are_cut_out_with_the_border_of_the_training(untrained: str, tmp_path: Path) -> None:
    scene = np.zeros((200, 300, 3), np.uint8)
    scene[40:104, 100:164] = FACE  # as large as crops, so that nothing is filtered
    (tmp_path / "in").mkdir()
    Image.fromarray(FACE).save(tmp_path / "in/face.png")
    Image.fromarray(scene).save(tmp_path / "in/scene.png")
    predict(untrained, [str(tmp_path / "in/face.png")], format="json", output=str(tmp_path / "alone.json"))
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"scene": (100 + 6.4, 40 + 6.4, 164 - 6.4, 104 - 6.4)}))  # the border is 0.1
    with pytest.raises(IncompleteError, match=r"1 images .*face.png: .*boxes.json has no box"):
        predict(untrained, [str(tmp_path / "in")], format="json", output=str(tmp_path / "o.json"), boxes=str(boxes))
    (alone,), (there,) = found(tmp_path / "alone.json").values(), found(tmp_path / "o.json").values()
    np.testing.assert_allclose(np.array(there) - [100, 40], alone, atol=0.05)


def test_files_patterns_and_links(images: Path, tmp_path: Path) -> None:
    assert [record.id for record in list_records([str(images / "*.png")])] == ["a"]
    assert [record.id for record in list_records([str(images / "**/*.png")])] == ["a", "sub/a"]
    assert [record.id for record in list_records(["https://server/b.png?size=large", str(images / "a.png")])] == [
        "b",
        "a",
    ]
    odd = images / "[x] #1.png"
    odd.write_bytes((images / "a.png").read_bytes())
    assert [record.uri for record in list_records([str(odd)])] == [str(odd)]
    with pytest.raises(DataError, match="image 'nowhere.png' is not there"):
        list_records(["nowhere.png"])
    with pytest.raises(DataError, match="a.png and .*sub/a.png have one name, 'a'; give them in two calls"):
        list_records([str(images / "a.png"), str(images / "sub/a.png")])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--output", "{images}"], "is no file that can be replaced"),
        (["--output", "/dev/null"], "is no file that can be replaced"),
        (["--output", "{images}/a.png/o.csv"], "give another place"),
        (["--overlay", "/sys/drawn"], "give another place"),
        (["--format", "fiftyone"], "give it with --output FOLDER"),
    ],
)
def test_places_that_cannot_be_written_are_told_before_the_work(
    options: list[str], message: str, images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before the model is even looked for, which is not there."""
    arguments = [option.format(images=images) for option in options]
    monkeypatch.setattr(sys, "argv", ["uldscale", "predict", "nowhere", str(images), *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err
    assert (ended.value.code, said.count("\n")) == (2, 1), said
    assert message in said


def test_evaluate_takes_what_predict_writes(untrained: str, tmp_path: Path) -> None:
    """Folders of images and of COCO points that name them; ids are the same on either side."""
    root = tmp_path / "faces"
    (root / "images").mkdir(parents=True)
    entries, points = [], []
    for number in range(12):
        face = render(number, size=64)
        Image.fromarray(face.image).save(root / "images" / f"{number}.png")
        entries.append({"id": number, "file_name": f"{number}.png", "width": 64, "height": 64})
        values = [float(value) for x, y in face.landmarks for value in (x, y, 2)]
        points.append({"id": number, "image_id": number, "category_id": 1, "keypoints": values, "bbox": [0, 0, 64, 64]})
    for split, part in (("train", slice(0, 8)), ("test", slice(8, 12))):
        content = {"images": entries[part], "annotations": points[part], "categories": [{"id": 1, "name": "face"}]}
        (root / f"{split}.json").write_text(json.dumps(content))
    predict(untrained, [str(root / "images")], format="json", output=str(tmp_path / "o.json"))
    data = {
        "kind": "coco",
        "train": str(root / "train.json"),
        "test": str(root / "test.json"),
        "images": str(root / "images"),
        "size": 64,
    }
    job = {"name": "x", "output": str(tmp_path / "runs"), "data": data, "runtime": {"ray": False}}
    result = Pipeline(Job.model_validate(job)).score(str(tmp_path / "o.json"))
    (name,) = result["methods"]
    assert name.startswith("uldscale-untrained")
    assert 0 < result["methods"][name]["detection_rate"] <= 1


def written(path: Path, count: int) -> Path:
    av = pytest.importorskip("av", reason="videos need PyAV, the extra `video`")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(10))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(count):
            picture = np.full((48, 64, 3), 20 * number, np.uint8)
            picture[:, :16] = 200
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def test_frames_of_a_video(untrained: str, tmp_path: Path) -> None:
    clip = written(tmp_path / "clip.mp4", 5)
    assert [round(float(frame[:, 32:].mean()), -1) for frame in frames(str(clip))] == [0, 20, 40, 60, 80]
    predict(untrained, [str(clip)], format="json", output=str(tmp_path / "o.json"))
    assert list(found(tmp_path / "o.json")) == [f"clip/{number:06d}" for number in range(5)]


def test_a_video_that_was_filmed_upright(tmp_path: Path) -> None:
    """The matrix of the track (ISO 14496-12, 6.2.2) turns it clockwise by 90 degrees, as phones write it: left becomes top."""
    clip = written(tmp_path / "clip.mp4", 2)
    one, end = 1 << 16, 1 << 30
    straight, turned = ((one, 0, 0, 0, one, 0, 0, 0, end), (0, one, 0, -one, 0, 0, 48 * one, 0, end))
    before, after = (b"".join(value.to_bytes(4, signed=True) for value in each) for each in (straight, turned))
    head, track, rest = clip.read_bytes().partition(b"tkhd")
    clip.write_bytes(head + track + rest.replace(before, after, 1))
    (first, _) = frames(str(clip))
    assert first.shape == (64, 48, 3)
    assert first[:12].mean() > 150 > 50 > first[20:].mean()


def test_videos_that_are_none(untrained: str, images: Path, tmp_path: Path) -> None:
    """Torn, or a list of other files under the name of a video: named, and the next file goes on."""
    whole = written(tmp_path / "whole.mp4", 3).read_bytes()
    (tmp_path / "torn.mp4").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile whole.mp4\n")
    given = [str(tmp_path / "torn.mp4"), str(tmp_path / "list.mp4"), str(images)]
    with pytest.raises(
        IncompleteError, match=r"2 images or videos .*torn.mp4: the (file has no video|video cannot be read).*list.mp4"
    ):
        predict(untrained, given, format="json", output=str(tmp_path / "o.json"))
    assert list(found(tmp_path / "o.json")) == ["a", "sub/a"]


def test_the_command_offers_every_format() -> None:
    import typing

    from uldscale.verbs.model import predict as verb

    annotation = typing.get_type_hints(verb)["format"]
    assert set(typing.get_args(annotation)) == set(FORMATS)
