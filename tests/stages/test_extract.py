"""Extraction: what is stored and told of the codec, and what another codec changes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uldscale.data.index import ImageIndex
from uldscale.diffusion.backbone import Backbone
from uldscale.errors import UserError
from uldscale.job import Job
from uldscale.pipeline import Pipeline
from uldscale.runs import RunFolder
from uldscale.stages.extract import store_spec
from uldscale.stages.inspect_store import print_info
from uldscale.stages.zero_shot import zero_shot
from uldscale.store.features import FeatureStore
from uldscale.store.reader import FeatureReader


@pytest.mark.parametrize(("images", "measured_on"), [(16, "held-out images"), (3, "images of its fit")])
def test_how_good_a_codec_is_stays_with_the_store(
    settings: dict[str, Any], capsys: pytest.CaptureFixture[str], images: int, measured_on: str
) -> None:
    settings["data"]["train"] = images
    pipeline = Pipeline(Job.model_validate(settings))
    store = pipeline.extract()
    told = {event["tap"]: event for event in pipeline.run.read_metrics() if event["event"] == "codec"}
    assert f"of the features' variance on {measured_on}; in all it loses" in capsys.readouterr().out
    print_info(store.root)
    stored = json.loads(capsys.readouterr().out)["codec"]
    assert list(stored) == sorted(tap.name for tap in store.spec.taps)
    for tap, measures in stored.items():
        assert measures == {name: told[tap][name] for name in ("explained", "error")}
        assert 0 < measures["error"] < 1 < measures["explained"] + measures["error"] + 1e-4


def test_int8_and_float16_differ_in_rounding_alone(settings: dict[str, Any]) -> None:
    """One codec is fitted, and nothing else of the features changes."""
    stores = []
    for kind in ("pca-int8", "pca-fp16"):
        settings["name"] = kind
        settings["extract"]["features"]["codec"]["kind"] = kind
        stores.append(Pipeline(Job.model_validate(settings)).extract())
    whole, half = stores
    assert (whole.spec.dtype, half.spec.dtype) == ("int8", "float16")
    ours, theirs = whole.read_codec(), half.read_codec()
    for tap in whole.spec.taps:
        assert all((ours[f"{tap.name}/{part}"] == theirs[f"{tap.name}/{part}"]).all() for part in ("basis", "scales"))
        assert ours[f"{tap.name}/error"] >= theirs[f"{tap.name}/error"]
    rows = np.arange(whole.spec.num_rows)
    codes, levels = (FeatureReader(store).read(rows, np.ones_like(rows)) for store in stores)
    for name, maps in levels.items():
        assert (np.abs(maps.astype(np.float32).clip(-127, 127) - codes[name]) <= 0.5 + 2**-5).all()


def test_zero_shot_wants_a_moved_view(settings: dict[str, Any], tmp_path: Path) -> None:
    settings["extract"]["views"]["count"] = 1
    job = Job.model_validate(settings)
    index = ImageIndex.build(job.data)
    outline = Backbone.outline(job.extract.features.backbone)
    spec = store_spec(job.extract, outline, job.data.size, num_rows=len(index), index=index.fingerprint())
    store = FeatureStore.open_or_create(str(tmp_path / "store"), spec)
    with pytest.raises(UserError, match=r"has 1 view of each image; set extract\.views\.count to 2 or more"):
        zero_shot(job.zero_shot, 3, index, store, 0.1, RunFolder(str(tmp_path / "run")), job.runtime, all_rows=False)
