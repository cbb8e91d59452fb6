"""The plan agrees with what is then written."""

from pathlib import Path
from typing import Any

import pytest

from uldscale.data.listing import list_records
from uldscale.diffusion.cost import measure
from uldscale.errors import ConfigError
from uldscale.job import Job
from uldscale.stages.plan import print_plan, store_spec
from uldscale.store.features import FeatureStore


def test_bytes_are_those_of_the_store(settings: dict[str, Any], tmp_path: Path) -> None:
    job = Job.model_validate(settings)
    cost = measure(job.extract.features, job.data.size)
    spec = store_spec(job.data, job.extract, cost, len(list_records(job.data)))
    assert spec.num_rows == 24
    names = [f"up_blocks.{level}.resnets.{block}" for level in range(2) for block in range(2)]
    assert [tap.name for tap in spec.taps] == names
    assert [(tap.channels, tap.side) for tap in spec.taps] == [(8, 8), (8, 8), (8, 16), (8, 16)]
    FeatureStore.open_or_create(str(tmp_path / "store.zarr"), spec)
    assert spec.row_bytes == 2 * (2 * 8 * 8**2 + 2 * 8 * 16**2)


def test_flops_of_convolutions_grow_with_the_area(settings: dict[str, Any]) -> None:
    features = Job.model_validate(settings).extract.features
    small, large = measure(features, 64), measure(features, 128)
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
