"""The feature store: its bytes, what survives kills, and what damage looks like."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

import uldscale
from uldscale.errors import IncompleteError, StoreError
from uldscale.store import arrays
from uldscale.store.features import FeatureStore
from uldscale.store.spec import VERSION, StoreSpec, TapSpec

LAST = 2
"""The shard with padding: row 6 and two rows that don't exist."""

Content = Callable[..., tuple[dict[str, NDArray[Any]], NDArray[np.float32]]]
Write = Callable[..., None]
Fill = Callable[..., FeatureStore]
Tree = Callable[[Path], dict[str, bytes]]


@pytest.fixture
def store(tmp_path: Path, whole: Path) -> FeatureStore:
    """A complete store at tmp_path / "store"."""
    return FeatureStore.open(shutil.copytree(whole, str(tmp_path / "store")))


@pytest.fixture
def empty(tmp_path: Path, spec: StoreSpec) -> FeatureStore:
    """A store without shards at tmp_path / "store"."""
    return FeatureStore.open_or_create(str(tmp_path / "store"), spec)


def shard_file(root: Path, name: str, shard: int) -> Path:
    (path,) = (root / name).glob(f"c.{shard}.*")
    return path


def views_file(root: Path) -> Path:
    return root / "views/c.0.0.0.0"


# What is on disk


@pytest.mark.parametrize("dtype", ["int8", "float16"])
def test_zarr_python_reads_what_was_written(
    tmp_path: Path,
    dtype: Literal["int8", "float16"],
    spec: StoreSpec,
    codec: dict[str, NDArray[Any]],
    content: Content,
    fill: Fill,
) -> None:
    spec = replace(spec, dtype=dtype)
    fill(tmp_path, spec)
    group: Any = zarr.open_group(str(tmp_path), mode="r")
    assert group.attrs["uldscale"] == spec.to_json()
    for name in spec.resolutions:
        array = group[name]
        assert array.shards == (3, *spec.shape(name)[1:])
        assert array.chunks == (1, 1, *spec.shape(name)[2:])
        written = np.concatenate([content(spec, shard)[0][name] for shard in range(3)])
        np.testing.assert_array_equal(array[:7], written)
        assert not np.any(array[7:])
    np.testing.assert_array_equal(group["views"][:7], np.concatenate([content(spec, shard)[1] for shard in range(3)]))
    np.testing.assert_array_equal(group["codec/up.2/scales"][:], codec["up.2/scales"])


def test_values_that_are_no_numbers_survive(tmp_path: Path, spec: StoreSpec, content: Content) -> None:
    spec = replace(spec, dtype="float16", codec={"kind": "none"})
    store = FeatureStore.open_or_create(str(tmp_path), spec)
    features, views = content(spec, 0)
    features["r08"][0, 0, 0, 0, 0, 0, :3] = np.nan, np.inf, -0.0
    store.write_shard(0, features, views, attempt="1", seconds=0)
    assert store.verify() == []
    group: Any = zarr.open_group(str(tmp_path), mode="r")
    assert group["r08"][:3].tobytes() == features["r08"].tobytes()


def test_an_all_zero_shard_is_on_disk_and_missed_when_it_goes(
    tmp_path: Path, spec: StoreSpec, content: Content
) -> None:
    store = FeatureStore.open_or_create(str(tmp_path), replace(spec, codec={"kind": "none"}))
    features, views = content(spec, 0)
    store.write_shard(0, {name: np.zeros_like(maps) for name, maps in features.items()}, views, attempt="1", seconds=0)
    assert store.verify() == []
    shard_file(tmp_path, "r08", 0).unlink()
    assert store.verify() == [0]


# The law: the same bytes


def test_writers_and_order_change_no_byte(
    tmp_path: Path, whole: Path, spec: StoreSpec, codec: dict[str, NDArray[Any]], write: Write, tree: Tree
) -> None:
    FeatureStore.open_or_create(str(tmp_path / "many"), spec).write_codec(codec)
    with ThreadPoolExecutor(3) as pool:
        handles = [FeatureStore.open(str(tmp_path / "many")) for _ in range(3)]
        list(pool.map(lambda pair: write(*pair, attempt="7", seconds=9.0), zip(handles, [2, 0, 1], strict=True)))
        list(pool.map(FeatureStore.views, handles))
    assert tree(tmp_path / "many") == tree(whole)
    assert (tmp_path / "many/attempts/00000.json").read_bytes() != (whole / "attempts/00000.json").read_bytes()


CHILD = """
import sys
import numpy as np
from uldscale.store.features import FeatureStore
root, path, attempt = sys.argv[1:]
store, data = FeatureStore.open(root), dict(np.load(path))
for shard in store.missing_shards():
    rows = store.rows_of(shard)
    part = {name: array[rows.start:rows.stop] for name, array in data.items()}
    views = part.pop("views")
    store.write_shard(shard, part, views, attempt=attempt, seconds=0)
"""


def test_kills_change_no_byte(
    tmp_path: Path,
    spec: StoreSpec,
    codec: dict[str, NDArray[Any]],
    content: Content,
    write: Write,
    fill: Fill,
    tree: Tree,
) -> None:
    spec = replace(spec, taps=(TapSpec("a", 16, 32), TapSpec("b", 16, 64)), num_rows=40, rows_per_shard=4)
    parts = [content(spec, shard) for shard in range(spec.num_shards)]
    data: dict[str, Any] = {name: np.concatenate([maps[name] for maps, _ in parts]) for name in spec.resolutions}
    np.savez(tmp_path / "data.npz", views=np.concatenate([views for _, views in parts]), **data)
    store = FeatureStore.open_or_create(str(tmp_path / "killed"), spec)
    store.write_codec(codec)
    kills, randomness = 0, random.Random(0)
    while store.missing_shards() and kills < 3:
        before = len(store.missing_shards())
        with child(store.root, tmp_path / "data.npz", str(kills)) as process:
            while len(store.missing_shards()) > before - 2 and process.poll() is None:
                time.sleep(0.001)
            time.sleep(randomness.random() * 0.02)
            process.send_signal(signal.SIGKILL)
        kills += 1
        assert store.verify() == []
    assert kills > 1
    again = FeatureStore.open_or_create(store.root, spec)
    for shard in again.missing_shards():
        write(again, shard, attempt="9")
    again.views()
    fill(tmp_path / "undisturbed", spec)
    assert tree(tmp_path / "killed") == tree(tmp_path / "undisturbed")


@contextmanager
def child(root: str, data: Path, attempt: str) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that writes all missing shards."""
    environment = {**os.environ, "PYTHONPATH": str(Path(uldscale.__file__).parents[1])}
    with subprocess.Popen([sys.executable, "-c", CHILD, root, str(data), attempt], env=environment) as process:
        yield process


def test_what_a_killed_writer_left_is_swept_by_the_next_writer_of_that_shard(
    empty: FeatureStore, codec: dict[str, NDArray[Any]], write: Write
) -> None:
    empty.write_codec(codec)
    root = Path(empty.root)
    ours = [root / f"{name}_0123456789abcdef.__lock" for name in ("r08/c.1.0.0.0.0.0.0", "commits/00001.json")]
    theirs = root / "commits/00002.json_0123456789abcdef.__lock"
    for draft in [*ours, theirs]:
        draft.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(b"half")
    assert empty.missing_shards() == [0, 1, 2]
    write(empty, 1)
    assert not any(draft.exists() for draft in ours)
    assert theirs.exists()
    assert empty.verify() == []


def test_many_may_open_or_create_at_the_same_time(
    tmp_path: Path, whole: Path, spec: StoreSpec, codec: dict[str, NDArray[Any]], write: Write, tree: Tree
) -> None:
    with ThreadPoolExecutor(8) as pool:
        stores = list(pool.map(lambda _: FeatureStore.open_or_create(str(tmp_path / "many"), spec), range(16)))
    stores[3].write_codec(codec)
    for shard, store in enumerate(stores[:3]):
        write(store, shard)
    store.views()
    assert tree(tmp_path / "many") == tree(whole)


# Commits and attempts


def test_only_commit_records_count(store: FeatureStore) -> None:
    assert store.missing_shards() == []
    store.require_complete()
    (Path(store.root) / "commits" / "00001.json").unlink()
    assert FeatureStore.open(store.root).missing_shards() == [1]
    with pytest.raises(IncompleteError, match=r"lacks 1 of 3 shards \(1\); run the same job again"):
        store.require_complete()
    with pytest.raises(IncompleteError):
        store.views()


def test_a_long_list_of_missing_shards_is_cut(tmp_path: Path, spec: StoreSpec) -> None:
    store = FeatureStore.open_or_create(str(tmp_path), replace(spec, num_rows=60))
    with pytest.raises(IncompleteError, match=r"lacks 20 of 20 shards \(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, \.\.\.\)"):
        store.require_complete()


def test_views_come_back_without_padding(store: FeatureStore, spec: StoreSpec, content: Content) -> None:
    np.testing.assert_array_equal(store.views(), np.concatenate([content(spec, shard)[1] for shard in range(3)]))


def test_the_same_content_again_is_left_alone(store: FeatureStore, tmp_path: Path, write: Write) -> None:
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    for attempt in ("0", "1", "2"):
        write(store, 1, attempt=attempt)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_an_older_attempt_does_not_overwrite_a_newer_commit(
    empty: FeatureStore, tmp_path: Path, write: Write, tree: Tree
) -> None:
    write(empty, 1, attempt="0005")
    before = tree(tmp_path)
    with pytest.raises(StoreError, match="shard 1 of attempt 0004 is not what the later attempt 0005 committed"):
        write(empty, 1, attempt="0004", seed=1)
    assert tree(tmp_path) == before


def test_a_newer_attempt_replaces_an_older_commit(store: FeatureStore, whole: Path, write: Write, tree: Tree) -> None:
    write(store, 1, attempt="4", seed=1)
    assert store.verify() == []
    assert tree(Path(store.root)) != tree(whole)
    write(store, 1, attempt="5")
    store.views()
    assert tree(Path(store.root)) == tree(whole)


@pytest.mark.parametrize("seed", [0, 1])
def test_two_attempts_at_the_same_time(
    empty: FeatureStore, codec: dict[str, NDArray[Any]], monkeypatch: pytest.MonkeyPatch, seed: int, write: Write
) -> None:
    """The other attempt commits after we found nothing committed, and before we write."""
    empty.write_codec(codec)
    other, sweep = FeatureStore.open(empty.root), arrays.sweep

    def interrupt(place: Any, *patterns: str) -> None:
        monkeypatch.setattr(arrays, "sweep", sweep)
        write(other, 1, attempt="2", seed=seed)

    monkeypatch.setattr(arrays, "sweep", interrupt)
    if seed == 0:
        write(empty, 1, attempt="1")
        assert empty.missing_shards() == [0, 2]
    else:
        with pytest.raises(StoreError, match="two attempts wrote different content to shard 1"):
            write(empty, 1, attempt="1")
        assert empty.missing_shards() == [0, 1, 2]
    assert empty.verify() == []


def test_info_tells_what_is_there(empty: FeatureStore, spec: StoreSpec, write: Write) -> None:
    write(empty, 0)
    write(empty, LAST, seconds=2.0)
    files = [path for path in Path(empty.root).rglob("*") if path.is_file()]
    info = empty.info()
    assert info.pop("spec") == spec.to_json()
    assert info == {
        "root": empty.root,
        "shards": 3,
        "missing_shards": [1],
        "bytes": 4 * spec.row_bytes,
        "objects": len(files),
        "stored_bytes": sum(path.stat().st_size for path in files),
        "seconds": 3.5,
        "arrays": {"r08": [9, 2, 2, 2, 4, 8, 8], "r16": [9, 2, 2, 1, 3, 16, 16]},
    }


class Watched:
    """A place that notes how many documents were asked for before the first one was waited for."""

    def __init__(self, place: Any) -> None:
        self._place, self._asked, self.together = place, 0, 0

    def __truediv__(self, path: str) -> Any:
        return self._place / path

    def read(self, key: str) -> Any:
        self._asked += 1
        reading = self._place.read(key)
        return SimpleNamespace(result=lambda: self._waited(reading))

    def _waited(self, reading: Any) -> Any:
        self.together = self.together or self._asked
        return reading.result()


def test_info_waits_for_all_attempts_together(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other they take minutes in a bucket."""
    place = Watched(store._place)
    monkeypatch.setattr(store._records, "_place", place)
    assert store.info()["seconds"] == 4.5
    assert place.together == 3


# Damage


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0x10
    path.write_bytes(data)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "first byte": lambda path: flip(path, 0),
    "last byte": lambda path: flip(path, -1),
    "cut": lambda path: os.truncate(path, path.stat().st_size - 7),
    "empty": lambda path: os.truncate(path, 0),
    "gone": Path.unlink,
}


@pytest.mark.parametrize("name", ["r08", "r16"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found_and_repaired(
    store: FeatureStore, whole: Path, name: str, damage: str, write: Write, tree: Tree
) -> None:
    DAMAGES[damage](shard_file(Path(store.root), name, 1))
    assert store.verify() == [1]
    assert store.missing_shards() == []
    assert store.verify(repair=True) == [1]
    assert store.missing_shards() == [1]
    write(store, 1)
    assert store.verify() == []
    assert tree(Path(store.root)) == tree(whole)


def test_every_byte_of_a_shard_is_watched(tmp_path: Path, spec: StoreSpec, fill: Fill) -> None:
    spec = replace(spec, taps=(TapSpec("a", 1, 2),), timesteps=(1,), num_rows=2, rows_per_shard=4)
    store = fill(tmp_path, spec)
    path = shard_file(tmp_path, "r02", 0)
    sound = path.read_bytes()
    for position in range(len(sound)):
        flip(path, position)
        assert store.verify() == [0], position
        path.write_bytes(sound)
    assert store.verify() == []


def test_a_sound_file_of_another_shard_is_found(store: FeatureStore, whole: Path) -> None:
    shard_file(Path(store.root), "r08", 0).write_bytes(shard_file(whole, "r08", 1).read_bytes())
    assert store.verify() == [0]


def test_a_damaged_record_is_found(store: FeatureStore, write: Write) -> None:
    (Path(store.root) / "commits" / "00001.json").write_bytes(b'{"rows": [3')
    with pytest.raises(StoreError, match=r"damaged commits/00001.json \(run store verify --repair"):
        write(store, 1)
    assert store.verify(repair=True) == [1]
    write(store, 1)
    assert store.verify() == []


def test_a_damaged_attempt_is_repaired(store: FeatureStore, whole: Path, write: Write, tree: Tree) -> None:
    (Path(store.root) / "attempts" / "00001.json").write_bytes(b"{")
    with pytest.raises(StoreError, match=r"damaged attempts/00001.json \(run store verify --repair"):
        store.info()
    assert store.verify(repair=True) == [1]
    write(store, 1)
    assert store.info()["missing_shards"] == []
    store.views()
    assert tree(Path(store.root)) == tree(whole)


@pytest.mark.parametrize("damage", [name for name in DAMAGES if name != "gone"])
def test_damaged_views_are_not_given_out(store: FeatureStore, whole: Path, damage: str, tree: Tree) -> None:
    DAMAGES[damage](views_file(Path(store.root)))
    for act in (store.views, store.verify):
        with pytest.raises(
            StoreError, match=r"has damaged views \(run store verify --repair, then the same job again\)"
        ):
            act()
    assert store.verify(repair=True) == []
    assert tree(Path(store.root)) == tree(whole)


def test_damaged_metadata_of_views_is_repaired(store: FeatureStore, whole: Path, tree: Tree) -> None:
    (Path(store.root) / "views/zarr.json").write_bytes(b"damage")
    with pytest.raises(StoreError, match="has damaged views"):
        store.views()
    assert store.verify(repair=True) == []
    assert tree(Path(store.root)) == tree(whole)


def test_views_of_another_store_are_found(store: FeatureStore, tmp_path: Path, spec: StoreSpec, write: Write) -> None:
    other = FeatureStore.open_or_create(str(tmp_path / "other"), spec)
    for shard in range(3):
        write(other, shard, seed=1)
    other.views()
    shutil.copy(views_file(Path(other.root)), views_file(Path(store.root)))
    with pytest.raises(StoreError, match="has views that are not those of its shards"):
        store.verify()


@pytest.mark.parametrize("killed", [False, True])
def test_views_follow_what_is_committed(
    store: FeatureStore, write: Write, content: Content, spec: StoreSpec, killed: bool
) -> None:
    """Also when a writer was killed after it had dropped the old record."""
    if killed:
        (Path(store.root) / "commits/00001.json").unlink()
    write(store, 1, attempt="4", seed=1)
    wanted = [content(spec, shard, seed)[1] for shard, seed in enumerate((0, 1, 0))]
    np.testing.assert_array_equal(store.views(), np.concatenate(wanted))


def test_a_killed_making_of_views_changes_no_byte(store: FeatureStore, whole: Path, tree: Tree) -> None:
    views_file(Path(store.root)).rename(Path(store.root) / "views/c.0.0.0.0_0123456789abcdef.__lock")
    FeatureStore.open_or_create(store.root, store.spec).views()
    assert tree(Path(store.root)) == tree(whole)


@pytest.mark.parametrize("damage", [{"views": "AAAA"}, {"views": "?"}, {"views": None}, {"rows": [3]}, {}])
def test_a_record_without_its_views_is_damaged(store: FeatureStore, damage: dict[str, Any]) -> None:
    path = Path(store.root) / "commits/00001.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **damage} if damage else {}))
    assert store.verify() == [1]
    views_file(Path(store.root)).unlink()
    with pytest.raises(StoreError, match="has damaged records"):
        store.views()


def test_a_store_that_cannot_be_read_is_not_called_damaged(store: FeatureStore) -> None:
    path = shard_file(Path(store.root), "r08", 1)
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(StoreError, match="shard 1 cannot be read"):
        store.verify(repair=True)
    assert store.missing_shards() == []


# What a user gets wrong


def test_another_spec_is_refused_with_the_difference(
    store: FeatureStore, whole: Path, spec: StoreSpec, tree: Tree
) -> None:
    wanted = replace(spec, timesteps=(1, 101, 261))
    with pytest.raises(StoreError, match=r"timesteps: the store has \(1, 101\), this run wants \(1, 101, 261\)"):
        FeatureStore.open_or_create(store.root, wanted)
    assert tree(Path(store.root)) == tree(whole)


@pytest.mark.parametrize("version", [1, 2, 99])
def test_a_store_of_another_version_is_refused_with_what_to_do(
    store: FeatureStore, spec: StoreSpec, tree: Tree, version: int
) -> None:
    """The first version said nothing of versions."""
    kept = {key: value for key, value in spec.to_json().items() if key != "version"}
    document = arrays.group({"uldscale": {**kept, **({"version": version} if version > 1 else {})}})
    (Path(store.root) / "zarr.json").write_text(json.dumps(document))
    before = tree(Path(store.root))
    for act in (lambda: FeatureStore.open(store.root), lambda: FeatureStore.open_or_create(store.root, spec)):
        with pytest.raises(
            StoreError, match=f"of version {version}, .*; it reads version {VERSION}: set extract.store.root"
        ) as caught:
            act()
        assert "\n" not in str(caught.value)
    assert tree(Path(store.root)) == before


def test_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no feature store at .*; run `uldscale extract`"):
        FeatureStore.open(str(tmp_path / "nothing"))


def test_a_root_of_unknown_kind() -> None:
    with pytest.raises(StoreError, match="teapot://pot cannot be opened"):
        FeatureStore.open("teapot://pot")


def test_a_root_below_a_file(tmp_path: Path, spec: StoreSpec) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="cannot become a feature store"):
        FeatureStore.open_or_create(str(tmp_path / "file" / "store"), spec)


@pytest.mark.parametrize("kind", ["plain", "damaged", "newer"])
def test_a_group_of_another_kind_is_left_alone(tmp_path: Path, kind: str, spec: StoreSpec, tree: Tree) -> None:
    attributes = {"plain": {}, "damaged": {"taps": []}, "newer": {**spec.to_json(), "more": 1}}[kind]
    zarr.create_group(str(tmp_path), attributes={"uldscale": attributes} if attributes else {})
    before = tree(tmp_path)
    for open_store in (FeatureStore.open, lambda root: FeatureStore.open_or_create(root, spec)):
        with pytest.raises(StoreError, match="this version of uldscale did not write"):
            open_store(str(tmp_path))
    assert tree(tmp_path) == before


def test_a_damaged_spec(store: FeatureStore) -> None:
    (Path(store.root) / "zarr.json").write_text("{")
    with pytest.raises(StoreError, match="is not a feature store"):
        FeatureStore.open(store.root)


def test_a_store_whose_making_was_killed(store: FeatureStore, whole: Path, spec: StoreSpec, tree: Tree) -> None:
    (Path(store.root) / "r16" / "zarr.json").unlink()
    with pytest.raises(StoreError, match="is not a whole feature store, run the job again"):
        FeatureStore.open(store.root)
    FeatureStore.open_or_create(store.root, spec)
    assert tree(Path(store.root)) == tree(whole)


def test_a_damaged_array_is_whole_again_after_what_the_error_says(
    store: FeatureStore, whole: Path, spec: StoreSpec, tree: Tree
) -> None:
    (Path(store.root) / "r16" / "zarr.json").write_text("{")
    with pytest.raises(StoreError, match=r"if the zarr.json of an array is damaged, remove that .*r16/zarr.json"):
        FeatureStore.open_or_create(store.root, spec)
    (Path(store.root) / "r16" / "zarr.json").unlink()
    FeatureStore.open_or_create(store.root, spec)
    assert tree(Path(store.root)) == tree(whole)


def test_wrong_arrays_are_refused_before_anything_is_written(
    empty: FeatureStore, tmp_path: Path, spec: StoreSpec, content: Content, tree: Tree
) -> None:
    before = tree(tmp_path)
    features, views = content(spec, 0)
    wrong: list[dict[str, Any]] = [
        {**features, "r08": features["r08"][:2]},
        {**features, "r08": features["r08"].astype(np.float32)},
        {"r08": features["r08"]},
        {**features, "r32": features["r08"]},
    ]
    for maps in wrong:
        with pytest.raises(ValueError, match="shard 0: got .* wanted"):
            empty.write_shard(0, maps, views, attempt="1", seconds=0)
    with pytest.raises(ValueError, match="shard 0: got .* wanted"):
        empty.write_shard(0, features, views[:, :1], attempt="1", seconds=0)
    with pytest.raises(IndexError, match="shard 3"):
        empty.write_shard(3, features, views, attempt="1", seconds=0)
    assert tree(tmp_path) == before


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_fails_leaves_nothing_that_counts(
    store: FeatureStore, whole: Path, write: Write, tree: Tree
) -> None:
    (Path(store.root) / "commits" / "00001.json").unlink()
    with largest_file(2000), pytest.raises(StoreError, match="did not take shard 1: .*File too large"):
        write(store, 1)
    assert store.missing_shards() == [1]
    write(store, 1)
    store.views()
    assert tree(Path(store.root)) == tree(whole)


def test_a_folder_that_is_removed_takes_no_shard(
    store: FeatureStore, spec: StoreSpec, write: Write, fill: Fill
) -> None:
    """A shard that was under way does not count in the store that the next run makes there."""
    shutil.rmtree(store.root)
    for act in (lambda: write(store, 1), store.views, lambda: FeatureStore.open(store.root)):
        with pytest.raises((StoreError, IncompleteError), match="there is no feature store|lacks 3 of 3 shards"):
            act()
    assert store.missing_shards() == [0, 1, 2]
    assert fill(store.root, replace(spec, seed=1)).verify() == []


def test_a_folder_that_another_run_took_over_takes_no_shard(store: FeatureStore, spec: StoreSpec, write: Write) -> None:
    shutil.rmtree(store.root)
    other = FeatureStore.open_or_create(store.root, replace(spec, seed=1))
    with pytest.raises(StoreError, match="holds the features of another run: seed: the store has 1, this run wants 0"):
        write(store, 1)
    assert other.missing_shards() == [0, 1, 2]


FULL = """
import json
import sys
import numpy as np
from uldscale.errors import StoreError
from uldscale.store.features import FeatureStore
from uldscale.store.spec import StoreSpec
root = sys.argv[1]
spec = StoreSpec.from_json(json.loads(sys.argv[2]))
store = FeatureStore.open_or_create(root, spec)
features = {name: np.ones((len(store.rows_of(0)), *spec.shape(name)[1:]), spec.dtype) for name in spec.resolutions}
try:
    store.write_shard(0, features, np.ones((len(store.rows_of(0)), spec.num_views, 3, 3)), attempt="1", seconds=0)
except StoreError as error:
    print(error)
print(FeatureStore.open(root).missing_shards())
"""


def test_a_full_disk_names_the_bytes(tmp_path: Path, spec: StoreSpec) -> None:
    """On a real file system of 1 MiB."""
    spec = replace(spec, taps=(TapSpec("a", 64, 64),), num_rows=2, rows_per_shard=1)
    script = f'mount -t tmpfs -o size=1m none {tmp_path} && exec {sys.executable} -c "$0" {tmp_path}/store "$1"'
    allowed = subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", str(tmp_path)], capture_output=True)
    if allowed.returncode:
        pytest.skip("this machine lets nobody mount a file system of their own")
    environment = {**os.environ, "PYTHONPATH": str(Path(uldscale.__file__).parents[1])}
    command = ["unshare", "-rm", "sh", "-c", script, FULL, json.dumps(spec.to_json())]
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
    assert f"did not take shard 0: the disk is full, {spec.row_bytes} bytes are needed and" in output[0]
    assert output[1] == "[0, 1]"


# The codec


def test_codec_round_trip(empty: FeatureStore, codec: dict[str, NDArray[Any]]) -> None:
    codec = {**codec, "up.0/basis": np.random.default_rng(0).random((5, 4), np.float32).T, "explained": np.array(0.5)}
    assert empty.read_codec() == {}
    assert not empty.has_codec
    empty.write_codec(codec)
    again = FeatureStore.open(empty.root)
    assert again.has_codec
    assert again.read_codec().keys() == codec.keys()
    for name, array in again.read_codec().items():
        np.testing.assert_array_equal(array, codec[name])
        assert array.dtype == codec[name].dtype


def test_features_without_their_codec_are_refused(store: FeatureStore) -> None:
    shutil.rmtree(Path(store.root, "codec"))
    for use in (store.read_codec, store.scales, store.verify):
        with pytest.raises(StoreError, match="but not the codec that they were encoded with"):
            use()


def test_a_store_may_be_at_home(tmp_path: Path, spec: StoreSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    FeatureStore.open_or_create("~/mine.zarr", spec)
    assert (tmp_path / "mine.zarr/zarr.json").is_file()


def test_a_codec_is_written_once(store: FeatureStore, whole: Path, codec: dict[str, NDArray[Any]], tree: Tree) -> None:
    store.write_codec(dict(reversed(codec.items())))
    with pytest.raises(StoreError, match="already has another codec"):
        store.write_codec({**codec, "up.0/mean": np.zeros(4, np.float32)})
    assert tree(Path(store.root)) == tree(whole)


def test_a_codec_without_its_record_does_not_count(
    store: FeatureStore, whole: Path, codec: dict[str, NDArray[Any]], tree: Tree
) -> None:
    folder = Path(store.root) / "codec"
    (folder / "zarr.json").unlink()
    shutil.rmtree(Path(store.root) / "commits")
    (folder / "up.0/zarr.json_0123456789abcdef.__lock").write_bytes(b"half")
    assert not store.has_codec
    assert store.read_codec() == {}
    store.write_codec(codec)
    assert tree(Path(store.root)) == without_commits(tree(whole))


def test_shards_keep_the_codec_that_they_were_encoded_with(
    store: FeatureStore, whole: Path, codec: dict[str, NDArray[Any]], write: Write, tree: Tree
) -> None:
    """Another fit may be another basis, in which their codes mean something else."""
    root = Path(store.root)
    shutil.rmtree(root / "codec")
    before = tree(root)
    with pytest.raises(
        StoreError, match="has 3 shards, but not the codec that they were encoded with; remove its folder"
    ):
        store.write_codec({**codec, "up.0/mean": np.zeros(4, np.float32)})
    assert tree(root) == before
    shutil.rmtree(root / "commits")
    store.write_codec(codec)
    for shard in range(3):
        write(store, shard)
    store.views()
    assert tree(root) == tree(whole)


def without_commits(files: dict[str, bytes]) -> dict[str, bytes]:
    return {path: content for path, content in files.items() if not path.startswith("commits/")}


@pytest.mark.parametrize("damage", [*DAMAGES, "other values"])
def test_a_damaged_codec_is_an_error(store: FeatureStore, damage: str) -> None:
    path, other = (Path(store.root) / "codec" / tap / "mean/c.0" for tap in ("up.0", "up.1"))
    if damage == "other values":
        path.write_bytes(other.read_bytes())
    else:
        DAMAGES[damage](path)
    with pytest.raises(StoreError, match="damaged codec; remove its folders codec and commits"):
        store.read_codec()
    with pytest.raises(StoreError, match="damaged codec; remove its folders codec and commits"):
        store.verify()


def test_scales_by_resolution(store: FeatureStore) -> None:
    np.testing.assert_array_equal(store.scales()["r08"], [[1] * 4, [2] * 4])
    np.testing.assert_array_equal(store.scales()["r16"], [[3] * 3])
    assert store.scales()["r16"].dtype == np.float32


def test_scales_are_ones_without_a_codec(empty: FeatureStore) -> None:
    np.testing.assert_array_equal(empty.scales()["r08"], np.ones((2, 4), np.float32))
