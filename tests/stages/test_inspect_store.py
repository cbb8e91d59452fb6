"""The verb `store verify`: its words and its exit codes, from a damaged store to one that is whole again."""

import sys
from pathlib import Path

import numpy as np
import pytest

from uldscale import cli
from uldscale.store.features import FeatureStore
from uldscale.store.spec import StoreSpec, TapSpec


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    """Three shards, without a codec."""
    spec = StoreSpec(
        model="tiny-ldm", weight_hash="abc", prompt="", mode="noise", noise="image", seed=0, timesteps=(1,),
        taps=(TapSpec("up", 4, 8),), views={}, codec={}, dtype="int8", image_size=128, index="def", num_rows=6,
        num_views=1, rows_per_shard=2,
    )  # fmt: skip
    store = FeatureStore.open_or_create(str(tmp_path / "store"), spec)
    for shard in range(3):
        write(store, shard)
    return store


def write(store: FeatureStore, shard: int) -> None:
    features = {"r08": np.full((2, *store.spec.shape("r08")[1:]), shard, np.int8)}
    store.write_shard(shard, features, np.zeros((2, 1, 3, 3)), attempt="1", seconds=0)


def verify(store: FeatureStore, *options: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["uldscale", "store", "verify", store.root, *options])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_from_damage_to_repair(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (Path(store.root) / "r08/c.1.0.0.0.0.0.0").write_bytes(b"damage")
    for _ in range(2):
        assert verify(store, monkeypatch=monkeypatch) == 3
        assert capsys.readouterr() == (
            "2 of 3 committed shards are good, 0 are missing\n",
            "uldscale: shards 1 are damaged; run with --repair, then the job again\n",
        )
    assert verify(store, "--repair", monkeypatch=monkeypatch) == 3
    assert capsys.readouterr().err == "uldscale: shards 1 are damaged; their records are dropped: run the job again\n"
    assert store.missing_shards() == [1]
    assert verify(store, "--repair", monkeypatch=monkeypatch) == 0
    assert capsys.readouterr() == ("2 of 2 committed shards are good, 1 are missing\n", "")
    write(store, 1)
    assert verify(store, monkeypatch=monkeypatch) == 0
    assert capsys.readouterr() == ("3 of 3 committed shards are good, 0 are missing\n", "")
