"""Probes: what goes in comes out; the sample is the same for every method and bounded."""

from pathlib import Path

import numpy as np
import pytest

from uldscale import probes
from uldscale.data.index import DataConfig, ImageIndex
from uldscale.probes import Probe


def test_round_trip(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    probe = Probe(
        rows=np.arange(4),
        moved=random.random((4, 3, 2), np.float32),
        matrices=random.random((4, 3, 3), np.float32).transpose(0, 2, 1),
        descriptors=random.random((4, 3, 5)).astype(np.float16),
    )
    path = str(tmp_path / "probe.safetensors")
    probe.write(path)
    found = Probe.read(path)
    for name, values in vars(probe).items():
        np.testing.assert_array_equal(getattr(found, name), values)


@pytest.mark.parametrize("test", [None, 6])
def test_sample(test: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    index = ImageIndex.build(DataConfig(kind="faces3d", train=4, test=test, size=32))
    pool = index.rows("test") if test else index.rows()
    assert probes.sample(index).tolist() == pool.tolist()
    monkeypatch.setattr(probes, "LARGEST", 3)
    chosen = probes.sample(index)
    assert len(chosen) == 3
    assert set(chosen) <= set(pool)
    assert chosen.tolist() == sorted(chosen) == probes.sample(index).tolist()
