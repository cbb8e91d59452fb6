"""The plan agrees with what is then written."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from uldscale.diffusion.backbone import Backbone
from uldscale.diffusion.cost import measure
from uldscale.errors import ConfigError
from uldscale.job import Job
from uldscale.models.network import Network
from uldscale.pipeline import Pipeline
from uldscale.runtime.machine import Card
from uldscale.stages.devices import named
from uldscale.stages.extract import store_spec
from uldscale.stages.plan import Plan, plan, print_plan, training_flops


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
    assert spec.num_objects == len(shards) == 4 * 4 + 1
    arrays = [path for path in shards if path.suffix != ".json"]
    assert spec.stored_bytes == sum(path.stat().st_size for path in arrays)


def test_flops_of_convolutions_grow_with_the_area(settings: dict[str, Any]) -> None:
    features = Job.model_validate(settings).extract.features
    outline = Backbone.outline(features.backbone)
    small, large = measure(features, outline, 64), measure(features, outline, 128)
    # The encoder ends in attention, which grows with the square of the area.
    assert 4 < large.latent_flops / small.latent_flops < 16
    assert large.call_flops / small.call_flops == pytest.approx(4, rel=0.05)


def test_unknown_gpu(settings: dict[str, Any]) -> None:
    job = Job.model_validate(settings)
    with pytest.raises(ConfigError, match="wanted one of t4"):
        print_plan(job.data, job.extract, job.train, job.runtime, "h9000")


def test_plan_names_what_it_costs(settings: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    job = Job.model_validate(settings)
    print_plan(job.data, job.extract, job.train, job.runtime, "t4")
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert list(lines) == [
        "images",
        "store",
        "objects",
        "extraction",
        "schedule",
        "training",
        "reading",
        "driver",
        "extract",
        "train",
        "relabel",
    ]
    assert lines["images"].startswith("24 in 2 views, 1 timesteps, 4 taps")
    assert (
        lines["schedule"]
        == "16 steps of 4 images in 2 views, at most 1 epochs a stage, 4 rounds of labels over 16 images"
    )


def made(settings: dict[str, Any], gpu: str, place: str = ".") -> Plan:
    job = Job.model_validate(settings)
    return plan(job.data, job.extract, job.train, job.runtime, gpu, place)


def test_on_the_cpu_at_hand(settings: dict[str, Any]) -> None:
    lines = made(settings, "cpu").lines
    assert re.search(r"about \d+ minutes? on 1 CPU cores of this machine", lines["extraction"])
    assert "$" not in "".join(lines.values())


def test_advice(settings: dict[str, Any], tmp_path: Path) -> None:
    """What does not fit, and what would be faster; nothing where there is nothing to say."""
    assert made(settings, "t4").advice == []
    assert [said.partition("=")[0] for said in made(settings, "laptop").advice] == [
        "extract.features.backbone.dtype", "train.engine.bf16",
    ]  # fmt: skip
    settings["data"]["train"] = 1_000_000
    settings["extract"] |= {"views": {"count": 8}, "store": {}}
    settings["train"] |= {"batch": 60_000}
    advice = " | ".join(made(settings, "laptop", str(tmp_path)).advice)
    assert "train may not fit: about" in advice
    assert "here 8; two views and one timestep" in advice
    settings["extract"]["features"] |= {"codec": {"kind": "none"}, "timesteps": list(range(1000))}
    assert "the store does not fit" in made(settings, "t4", str(tmp_path / "not" / "yet")).advice[0]


@pytest.mark.parametrize(
    ("name", "memory", "known"),
    [
        ("NVIDIA GeForce RTX 4090", 23.6, "rtx4090"), ("NVIDIA GeForce RTX 4060 Laptop GPU", 8, "laptop"), ("Tesla T4", 14.6, "t4"),
        ("NVIDIA A100-SXM4-80GB", 79.2, "a100"), ("NVIDIA H200", 139.8, "h200"), ("Radeon", 8, None), ("NVIDIA L40S", 44.4, "l40s"),
        ("NVIDIA L4", 22.2, "l4"), ("NVIDIA T400", 4, None), ("NVIDIA A10G", 22.2, "a10g"), ("NVIDIA A100-SXM4-40GB", 39.4, None),
        ("NVIDIA A100-SXM4-80GB MIG 1g.10gb", 9.5, None),
    ],
)  # fmt: skip
def test_cards_by_their_names(name: str, memory: float, known: str | None) -> None:
    assert named(Card(name, memory, True)) == known


@pytest.mark.parametrize(("dtype", "bf16"), [("float32", True), ("bfloat16", False)])
def test_hours_and_money_are_those_of_the_precision(
    settings: dict[str, Any], capsys: pytest.CaptureFixture[str], dtype: str, bf16: bool
) -> None:
    """On an a100 float32 has a sixteenth of the peak; many images and steps, so that figures have digits."""
    settings["data"] |= {"train": 500_000}
    settings["extract"]["features"]["backbone"]["dtype"] = dtype
    settings["train"] |= {"engine": {"bf16": bf16}, "bootstrap": {"steps": 10_000_000, "learning_rate": 1e-3}}
    job = Job.model_validate(settings)
    print_plan(job.data, job.extract, job.train, job.runtime, "a100")
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    for name, precision in (("extraction", dtype), ("training", "bfloat16" if bf16 else "float32")):
        words = re.fullmatch(
            rf"([\d,.]+) (T|P)FLOP, ([\d,.]+) (hours|seconds) of one a100 at 40% of its {precision} peak, \$([\d,.]+) at \$3 an hour",
            lines[name],
        )
        assert words is not None, lines[name]
        flops, hours, dollars = (float(words[number].replace(",", "")) for number in (1, 3, 5))
        flops *= {"T": 1e12, "P": 1e15}[words[2]]
        hours /= {"hours": 1, "seconds": 3600}[words[4]]
        assert hours == pytest.approx(
            flops / (0.4 * {"bfloat16": 312e12, "float32": 19.5e12}[precision]) / 3600, rel=0.05
        )
        assert dollars == pytest.approx(3 * hours, abs=0.2)


def test_flops_of_training_against_a_count_of_the_real_network(settings: dict[str, Any]) -> None:
    """Forward and backward passes of the network with all that a D-ULD++ step trains, and passes of a round, counted as they run."""
    job = Job.model_validate(settings)
    outline = Backbone.outline(job.extract.features.backbone, weights=False)
    spec = store_spec(job.extract, outline, job.data.size, num_rows=24, index="")
    scales = {name: torch.rand(len(taps), taps[0].channels) for name, taps in spec.resolutions.items()}
    network = Network(scales, len(spec.timesteps), job.train.network)
    features = {name: torch.rand(2 * 4, *spec.shape(name)[2:]) for name in spec.resolutions}
    with FlopCounterMode(display=False) as step:
        outputs = network(features)
        (outputs.logits.sum() + outputs.descriptors.square().sum()).backward()
    with FlopCounterMode(display=False) as view, torch.no_grad():
        network({name: maps[:1] for name, maps in features.items()})
    found = training_flops(job.train, spec, images=16)
    # The first layers need no gradient of their input, so a step is a little less than three forward passes.
    assert 0.9 < (16 * step.get_total_flops() + 4 * 16 * view.get_total_flops()) / found <= 1
