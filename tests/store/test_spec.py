"""The identity and the layout of a store."""

import json
from dataclasses import replace

import pytest

from uldscale.store.spec import StoreConfig, StoreSpec, TapSpec


@pytest.fixture
def spec(spec: StoreSpec) -> StoreSpec:
    """The order of taps is not that of resolutions, and the last shard has padding."""
    taps = (TapSpec("up.1", 4, 16), TapSpec("up.0", 6, 8), TapSpec("up.2", 4, 16))
    codec = {"kind": "pca-int8", "channels": 6}
    return replace(spec, taps=taps, codec=codec, num_rows=10, rows_per_shard=4)


def test_taps_are_grouped_by_resolution_in_their_order(spec: StoreSpec) -> None:
    assert {name: [tap.name for tap in taps] for name, taps in spec.resolutions.items()} == {
        "r08": ["up.0"],
        "r16": ["up.1", "up.2"],
    }


def test_shapes_are_padded_to_whole_shards(spec: StoreSpec) -> None:
    assert spec.shape("r08") == (12, 2, 2, 1, 6, 8, 8)
    assert spec.shape("r16") == (12, 2, 2, 2, 4, 16, 16)
    assert [spec.rows_of(shard) for shard in range(spec.num_shards)] == [range(4), range(4, 8), range(8, 10)]


@pytest.mark.parametrize("shard", [-1, 3])
def test_there_are_no_other_shards(shard: int, spec: StoreSpec) -> None:
    with pytest.raises(IndexError, match="a store with 3"):
        spec.rows_of(shard)


@pytest.mark.parametrize("num_rows", [1, 5, 99, 100, 101])
@pytest.mark.parametrize("rows_per_shard", [None, 1, 7, 100])
def test_shards_cut_the_rows_without_gaps(num_rows: int, rows_per_shard: int | None, spec: StoreSpec) -> None:
    spec = replace(spec, num_rows=num_rows, rows_per_shard=rows_per_shard)
    assert [row for shard in range(spec.num_shards) for row in spec.rows_of(shard)] == list(range(num_rows))
    assert spec.shape("r08")[0] - num_rows < spec.shard_rows


def test_a_shard_holds_what_fits_in_its_mebibytes(spec: StoreSpec) -> None:
    spec = replace(spec, num_rows=10**6, rows_per_shard=None, shard_mib=64)
    assert spec.row_bytes == 2 * 2 * (6 * 8 * 8 + 2 * 4 * 16 * 16)
    assert spec.shard_rows * spec.row_bytes <= 64 * 2**20 < (spec.shard_rows + 1) * spec.row_bytes
    assert replace(spec, dtype="float16").row_bytes == 2 * spec.row_bytes


def test_an_image_larger_than_a_shard_gets_a_shard_of_its_own(spec: StoreSpec) -> None:
    wide = replace(spec, rows_per_shard=None, shard_mib=1, taps=(TapSpec("up", 4096, 64),))
    assert wide.shard_rows == 1


def test_json_round_trip(spec: StoreSpec) -> None:
    again = StoreSpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert again.differences(spec) == spec.differences(again) == []
    assert again.taps == spec.taps
    assert again.timesteps == spec.timesteps


def test_every_difference_is_named(spec: StoreSpec) -> None:
    other = replace(
        spec,
        timesteps=(1, 101, 261),
        taps=spec.taps[:1],
        codec={"kind": "none"},
        seed=1,
        rows_per_shard=5,
        dtype="float16",
    )
    assert spec.differences(other) == [
        "seed: the store has 0, this run wants 1",
        "timesteps: the store has (1, 101), this run wants (1, 101, 261)",
        "taps: the store has up.1 (4, 16, 16), up.0 (6, 8, 8), up.2 (4, 16, 16), this run wants up.1 (4, 16, 16)",
        "codec.kind: the store has 'pca-int8', this run wants 'none'",
        "codec.channels: the store has 6, this run wants none",
        "dtype: the store has 'int8', this run wants 'float16'",
        "rows_per_shard: the store has 4, this run wants 5",
    ]


def test_how_a_shard_size_was_asked_for_is_no_difference(spec: StoreSpec) -> None:
    asked = replace(spec, rows_per_shard=None, shard_mib=64)
    given = replace(spec, rows_per_shard=asked.shard_rows)
    assert asked.differences(given) == []


def test_taps_of_one_resolution_share_channels(spec: StoreSpec) -> None:
    with pytest.raises(ValueError, match=r"r16: .*up.1 \(4, 16, 16\), up.9 \(5, 16, 16\)"):
        replace(spec, taps=(TapSpec("up.1", 4, 16), TapSpec("up.9", 5, 16)))


def test_config_refuses_shards_without_rows() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        StoreConfig(rows_per_shard=0)
