"""Regions: the right box of the right image, square, inside reason; else one line that says why not."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uldscale import config
from uldscale.data.images import BrokenImage
from uldscale.data.orientation import Turn
from uldscale.data.roi import RoiConfig, describe, distinct, make_provider, margin_of, read_boxes, square
from uldscale.data.sources import Box, Record
from uldscale.errors import ConfigError, DataError

IMAGE = np.zeros((60, 100, 3), np.uint8)


def record(id: str = "a", box: Box | None = None) -> Record:
    return Record(id, f"/images/{id}.jpg", box=box)


def test_full_is_the_whole_image() -> None:
    assert make_provider(RoiConfig())(record(), IMAGE) == [(0, 0, 100, 60)]


def test_annotation_is_the_bbox_made_square() -> None:
    find = make_provider(RoiConfig(provider="annotation"))
    assert find(record(box=(10, 20, 50, 40)), IMAGE) == [(10, 10, 50, 50)]
    with pytest.raises(BrokenImage, match="no annotation with a bbox"):
        find(record(), IMAGE)


def test_margin_is_added_on_every_side() -> None:
    find = make_provider(RoiConfig(provider="annotation", margin=0.25))
    assert find(record(box=(10, 20, 50, 40)), IMAGE) == [(0, 0, 60, 60)]


@given(*[st.floats(-100, 100)] * 2, *[st.floats(1, 100)] * 2, st.floats(0, 2))
def test_a_square_holds_the_box_around_the_same_centre(x: float, y: float, w: float, h: float, margin: float) -> None:
    x0, y0, x1, y1 = square((x, y, x + w, y + h), margin)
    assert x1 - x0 == pytest.approx(y1 - y0)
    assert x1 - x0 == pytest.approx(max(w, h) * (1 + 2 * margin))
    assert ((x0 + x1) / 2, (y0 + y1) / 2) == pytest.approx((x + w / 2, y + h / 2))


def test_the_border_is_what_the_crop_shows_around_the_object() -> None:
    crop = square((0, 0, 40, 40), 0.25)
    assert RoiConfig(provider="annotation", margin=0.25).border == pytest.approx((0 - crop[0]) / (crop[2] - crop[0]))
    assert RoiConfig(context=0.2).border == 0.2
    assert RoiConfig().border == 0


@pytest.mark.parametrize("margin", [0.0, 0.1, 0.25, 2.0])
def test_the_margin_of_a_border_is_the_way_back(margin: float) -> None:
    assert margin_of(RoiConfig(provider="annotation", margin=margin).border) == margin


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ((10, 10, 10.5, 10.5), "less than a pixel"),
        ((0, 0, 0, 0), "less than a pixel"),
        ((-500, -500, 500, 500), "4 times as wide"),
        ((200, 10, 240, 50), "centre outside the image of 100 x 60 px"),
    ],
)
def test_boxes_beyond_reason_are_refused(box: Box, said: str) -> None:
    with pytest.raises(BrokenImage, match=said):
        make_provider(RoiConfig(provider="annotation"))(record(box=box), IMAGE)


@pytest.mark.parametrize("name", ["boxes.json", "boxes.csv", "headed.csv"])
def test_boxes_of_a_file(tmp_path: Path, name: str) -> None:
    rows = "a,10,20,50,60\nsub/b,1,2,3,4\n"
    text = '{"a": [10, 20, 50, 60], "sub/b": [1, 2, 3, 4]}' if name.endswith("json") else rows
    (tmp_path / name).write_text("id,x0,y0,x1,y1\n" + text if name == "headed.csv" else text)
    find = make_provider(RoiConfig(provider="file", file=str(tmp_path / name)))
    assert find(record("a"), IMAGE) == [(10, 20, 50, 60)]
    assert find(record("sub/b"), IMAGE) == [(1, 2, 3, 4)]
    with pytest.raises(BrokenImage, match="has no box for 'c'"):
        find(record("c"), IMAGE)


def test_a_box_file_may_say_that_there_is_no_object(tmp_path: Path) -> None:
    (tmp_path / "boxes.json").write_text('{"a": [], "b": null, "c": [1, 2, 3, 4]}')
    find = make_provider(RoiConfig(provider="file", file=str(tmp_path / "boxes.json")))
    assert find(record("c"), IMAGE) == [(1, 2, 3, 4)]
    for name in "ab":
        with pytest.raises(BrokenImage, match=f"says that '{name}' has no object"):
            find(record(name), IMAGE)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.json", "[1]", "holds a list"),
        ("a.json", "{", "is not JSON"),
        ("a.json", '{"a": [1, 2, 3]}', r"box of 'a' is \[1, 2, 3\]; wanted four numbers"),
        ("a.json", '{"a": 5}', "box of 'a' is 5; wanted four numbers"),
        ("a.json", '{"a": [1, 2, 1, 4]}', "wanted x0 < x1"),
        ("a.json", '{"a": [1, 2, Infinity, 4]}', "wanted x0 < x1"),
        ("a.csv", "a,1,2,x,4", "box of 'a' is .* wanted four numbers"),
        ("a.csv", "a,1,2,3,4\na,1,2,3,5", "several boxes for one id, 'a'; wanted one an image, or roi.objects: all"),
        ("a.json", '{"a": [[1, 2, 3, 4], [1, 2, 3, 5]]}', "several boxes for one id"),
        ("a.json", '{"a": [[1, 2, 3, 4], 5]}', "wanted four numbers"),
        ("a.json", '{"a": ""}', "wanted four numbers"),
    ],
)
def test_bad_box_files_are_named(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=said):
        read_boxes(str(tmp_path / name))


def test_a_box_file_that_is_not_there() -> None:
    with pytest.raises(DataError, match="/none/boxes.json is not there"):
        make_provider(RoiConfig(provider="file", file="/none/boxes.json"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"provider": "file"}, "roi.file names the box file"),
        ({"file": "boxes.json"}, "roi.file names the box file"),
        ({"margin": 0.1}, "no effect"),
        ({"provider": "annotation", "context": 0.1}, "roi.context is for roi.provider 'full'"),
        ({"provider": "text", "model": "google/owlv2-base-patch16"}, "roi.prompt says what"),
        ({"prompt": "a cat"}, "roi.prompt says what"),
        ({"provider": "text", "prompt": "a cat"}, "roi.model must be a zero-shot detector"),
        ({"objects": "all"}, "roi.objects 'all' has no effect on roi.provider 'full'"),
    ],
)
def test_settings_that_contradict_each_other(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        config.validate(RoiConfig, settings, "job.yaml")


@pytest.mark.parametrize("name", ["boxes.json", "boxes.csv"])
def test_several_objects_are_largest_first(tmp_path: Path, name: str) -> None:
    rows = "a,10,10,14,14\na,20,20,40,40\na,10,30,14,34\n"
    text = '{"a": [[10, 10, 14, 14], [20, 20, 40, 40], [10, 30, 14, 34]]}' if name.endswith("json") else rows
    (tmp_path / name).write_text(text)
    find = make_provider(RoiConfig(provider="file", file=str(tmp_path / name), objects="all"))
    assert find(record("a"), IMAGE) == [(20, 20, 40, 40), (10, 10, 14, 14), (10, 30, 14, 34)]


def test_a_detection_that_overlaps_a_better_one_is_the_same_object() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 8], [20, 0, 30, 10], [0, 0, 10, 4], [5, 5, 5, 5]], float)
    scores = np.array([0.7, 0.9, 0.5, 0.8, 0.1])
    # 10 x 8 covers four fifths of 10 x 10, and just half of 10 x 4 and itself.
    assert distinct(boxes, scores) == [(0, 0, 10, 8), (20, 0, 30, 10), (5, 5, 5, 5)]
    assert distinct(boxes[:0], scores[:0]) == []


def test_boxes_that_a_person_gave_turn_with_the_image() -> None:
    find = make_provider(RoiConfig(provider="annotation"))
    # Stored 60 wide and 100 high; orientation 6 is a quarter turn clockwise, so that x is 100 minus the stored y.
    assert find(record(box=(10, 20, 30, 40)), IMAGE, Turn(6, 60, 100)) == [(60, 10, 80, 30)]


@pytest.mark.skipif(importlib.util.find_spec("detectron2") is not None, reason="detectron2 is installed")
def test_a_missing_detector_says_what_to_do() -> None:
    with pytest.raises(DataError, match="needs a package that is not installed .*detectron2.* roi.provider 'file'"):
        make_provider(RoiConfig(provider="detectron2"))


class Tensor:
    """As much of a tensor as the provider reads."""

    def __init__(self, values: Any) -> None:
        self.values = np.array(values)

    def numpy(self) -> Any:
        return self.values


def simulate_detectron2(patch: pytest.MonkeyPatch) -> None:
    """A detectron2 that finds a cat where the picture is blue, with its real names and BGR order."""

    class Predictor:
        def __init__(self, settings: Any) -> None:
            assert settings.MODEL.WEIGHTS == "weights of zoo.yaml"

        def __call__(self, bgr: Any) -> Any:
            y, x = np.nonzero(bgr[:, :, 0] > 128)
            # A person around the cat, a smaller cat of a higher score, and one of too low a score.
            cat = [[x.min(), y.min(), x.max() + 1, y.max() + 1]] if len(x) else []
            found = [[0, 0, 100, 60], *cat, [5, 5, 15, 15], [0, 0, 60, 60]] if cat else []
            instances = SimpleNamespace(
                pred_boxes=SimpleNamespace(tensor=Tensor(np.array(found, float).reshape(-1, 4))),
                pred_classes=Tensor([0, 1, 1, 1][: len(found)]),
                scores=Tensor([0.99, 0.8, 0.9, 0.4][: len(found)]),
            )
            return {"instances": SimpleNamespace(to=lambda device: instances)}

    settings = SimpleNamespace(
        MODEL=SimpleNamespace(ROI_HEADS=SimpleNamespace(), RETINANET=SimpleNamespace()),
        DATASETS=SimpleNamespace(TRAIN=["coco"]),
        merge_from_file=lambda path: None,
    )
    zoo = SimpleNamespace(get_config_file=lambda n: n, get_checkpoint_url=lambda n: f"weights of {n}")
    catalog = SimpleNamespace(get=lambda name: SimpleNamespace(thing_classes=["person", "cat"]))
    modules: dict[str, dict[str, Any]] = {
        "detectron2": {"model_zoo": zoo},
        "detectron2.config": {"get_cfg": lambda: settings},
        "detectron2.data": {"MetadataCatalog": catalog},
        "detectron2.engine": {"DefaultPredictor": Predictor},
    }
    for name, content in modules.items():
        module = ModuleType(name)
        module.__dict__.update(content)
        patch.setitem(sys.modules, name, module)


def test_detections_become_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    simulate_detectron2(monkeypatch)
    find = make_provider(RoiConfig(provider="detectron2", model="zoo.yaml", category="cat"))
    image = IMAGE.copy()
    image[20:40, 30:60] = (0, 0, 255)
    assert find(record(), image) == [(30, 15, 60, 45)]
    both = make_provider(RoiConfig(provider="detectron2", model="zoo.yaml", category="cat", objects="all"))
    assert both(record(), image) == [(30, 15, 60, 45), (5, 5, 15, 15)]
    with pytest.raises(BrokenImage, match="no cat found with a score of at least 0.5"):
        find(record(), IMAGE)
    with pytest.raises(DataError, match="'dog' is not a class of zoo.yaml: person, cat"):
        make_provider(RoiConfig(provider="detectron2", model="zoo.yaml", category="dog"))


def test_boxes_survive_json(tmp_path: Path) -> None:
    boxes = {"a": (0.1, 0.2, 30.3, 40.4)}
    (tmp_path / "b.json").write_text(json.dumps(boxes))
    assert read_boxes(str(tmp_path / "b.json")) == {"a": [boxes["a"]]}


def test_what_was_used_is_said() -> None:
    assert describe(RoiConfig(context=0.1)) == {"provider": "full", "objects": "largest", "context": 0.1}
    said = describe(RoiConfig(provider="text", model="tiny", prompt="a cat", margin=0.2, threshold=0.1))
    assert said.pop("version").count(".") >= 1
    assert said == {
        "provider": "text",
        "objects": "largest",
        "margin": 0.2,
        "threshold": 0.1,
        "model": "tiny",
        "revision": "latest",
        "prompt": "a cat",
        "package": "transformers",
    }
