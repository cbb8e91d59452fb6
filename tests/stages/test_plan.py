"""The plan agrees with what is then written."""

from pathlib import Path
from typing import Any

import pytest

from uldscale.diffusion.backbone import Backbone
from uldscale.diffusion.cost import measure
from uldscale.errors import ConfigError
from uldscale.job import Job
from uldscale.pipeline import Pipeline
from uldscale.stages.extract import store_spec
from uldscale.stages.plan import print_plan


def test_bytes_and_objects_are_those_of_the_store(settings: dict[str, Any], tmp_path: Path) -> None:
    """Everything below the folder of a full store counts; at most 2 % of it is documents and the codec."""
    settings["extract"]["features"] |= {"timesteps": [50, 150, 300], "codec": {"channels": 16, "sample": 4}}
    job = Job.model_validate(settings)
    store = Pipeline(job).extract()
    outline = Backbone.outline(job.extract.features.backbone, weights=False)
    spec = store_spec(job.extract, outline, job.data.size, num_rows=24, index="")
    files = [path for path in Path(store.root).rglob("*") if path.is_file()]
    assert spec.stored_bytes == pytest.approx(sum(path.stat().st_size for path in files), rel=0.02)
    shards = [path for path in files if path.relative_to(store.root).parts[0] != "codec" and path.name != "zarr.json"]
    assert spec.num_objects == len(shards) == 4 * 5
    arrays = [path for path in shards if path.suffix != ".json"]
    assert spec.stored_bytes == sum(path.stat().st_size for path in arrays)


def test_flops_of_convolutions_grow_with_the_area(settings: dict[str, Any]) -> None:
    features = Job.model_validate(settings).extract.features
    outline = Backbone.outline(features.backbone)
    small, large = measure(features, outline, 64), measure(features, outline, 128)
    # The encoder ends in attention, which grows with the square of the area.
    assert 4 < large.vae_flops / small.vae_flops < 16
    assert large.unet_flops / small.unet_flops == pytest.approx(4, rel=0.05)


def test_unknown_gpu(settings: dict[str, Any]) -> None:
    job = Job.model_validate(settings)
    with pytest.raises(ConfigError, match="wanted one of t4"):
        print_plan(job.data, job.extract, job.train, 1, "h9000")


def test_plan_names_what_it_costs(settings: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    job = Job.model_validate(settings)
    print_plan(job.data, job.extract, job.train, 1, "h100")
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert list(lines) == ["images", "store", "objects", "extraction", "training", "reading"]
    assert lines["images"].startswith("24 in 2 views, 1 timesteps, 4 taps")
    assert lines["training"].startswith("16 steps of 4 images")
