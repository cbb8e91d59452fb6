"""The feature store in a bucket of a real S3 server on this machine: the bytes and the laws of a local store."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
import tensorstore as ts
from numpy.typing import NDArray

from uldscale.errors import IncompleteError, StoreError
from uldscale.runtime.cache import CacheConfig
from uldscale.store import arrays, places
from uldscale.store.features import FeatureStore
from uldscale.store.reader import FeatureReader
from uldscale.store.sources import PIECES
from uldscale.store.spec import StoreSpec

pytest.importorskip("moto.server", reason="no S3 server: install moto[s3], flask and flask-cors")
import boto3  # noqa: E402

Write = Callable[..., None]
Fill = Callable[..., FeatureStore]
Tree = Callable[[Path], dict[str, bytes]]


@dataclass
class Server:
    """An S3 server in a process of its own, and a client that is not ours."""

    process: subprocess.Popen[bytes]
    client: Any

    def bucket(self, name: str) -> str:
        """A new bucket; returns the root of a store in it."""
        self.client.create_bucket(Bucket=name)
        return f"s3://{name}/some/store"

    def objects(self, root: str) -> dict[str, bytes]:
        """All objects of a store by key, but for attempts/."""
        bucket, _, path = root.removeprefix("s3://").partition("/")
        found = self.client.list_objects_v2(Bucket=bucket).get("Contents", [])
        keys = [entry["Key"] for entry in found if "attempts/" not in entry["Key"]]
        prefix = path and f"{path}/"
        return {key.removeprefix(prefix): self.client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}

    def remove(self, root: str) -> None:
        """Remove the bucket of a store with all that is in it."""
        bucket = root.removeprefix("s3://").partition("/")[0]
        for entry in self.client.list_objects_v2(Bucket=bucket).get("Contents", []):
            self.client.delete_object(Bucket=bucket, Key=entry["Key"])
        self.client.delete_bucket(Bucket=bucket)


@pytest.fixture(scope="module")
def environment() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def start() -> Server:
    """A server on a free port. The caller ends it."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    url = f"http://127.0.0.1:{port}"
    return Server(process, boto3.client("s3", endpoint_url=url, region_name="us-east-1"))


def end(server: Server) -> None:
    server.process.kill()
    server.process.wait()


def point_at(server: Server, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("AWS_ENDPOINT_URL_S3", server.client.meta.endpoint_url)


@pytest.fixture(scope="module")
def server(environment: pytest.MonkeyPatch) -> Iterator[Server]:
    """The server that all tests share, with the environment of a user who has one."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        environment.delenv(name)
    environment.setenv("AWS_ACCESS_KEY_ID", "somebody")
    environment.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    server = start()
    point_at(server, environment)
    yield server
    end(server)


@pytest.fixture
def root(server: Server) -> str:
    """A place for a store in a bucket of the test's own."""
    return server.bucket(f"bucket-{uuid4().hex}")


@pytest.fixture
def mortal(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server to be stopped, for roots that are opened from now on; retries are over soon."""
    server = start()
    point_at(server, monkeypatch)
    monkeypatch.setattr(places, "_RETRIES", {"max_retries": 2, "initial_delay": "50ms", "max_delay": "100ms"})
    yield server
    end(server)


# What the environment says


def location(root: str, monkeypatch: pytest.MonkeyPatch, **variables: str) -> dict[str, Any]:
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found: dict[str, Any] = places.open_root(root).spec().to_json()
    return {key: value for key, value in found.items() if key not in ("driver", "context")}


def test_a_server_of_ones_own(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    place = {"bucket": "bucket", "path": "a/b/"}
    both = {"AWS_ENDPOINT_URL_S3": "http://special:9000/", "AWS_ENDPOINT_URL": "http://general:9000"}
    regions = {"AWS_REGION": "eu-north-1", "AWS_DEFAULT_REGION": "eu-west-1"}
    assert location("s3://bucket/a/b", monkeypatch) == place
    # AWS itself knows the region of a bucket, which need not be that of the machine.
    assert location("s3://bucket/a/b/", monkeypatch, **regions) == place
    special = location("s3://bucket/a/b", monkeypatch, **both)
    assert special == {**place, "endpoint": "http://special:9000", "aws_region": "eu-north-1"}
    monkeypatch.delenv("AWS_REGION")
    general = location("s3://bucket/a/b", monkeypatch, AWS_ENDPOINT_URL="http://general:9000", AWS_ENDPOINT_URL_S3="")
    assert general == {**place, "endpoint": "http://general:9000", "aws_region": "eu-west-1"}


def test_credentials_in_the_environment_are_taken_without_a_word(root: str, capfd: pytest.CaptureFixture[str]) -> None:
    """The default chain of credentials complains of the files in the home folder that it does not find."""
    arrays.write_document(places.open_root(root), "a.json", 1)
    assert capfd.readouterr() == ("", "")


# The laws of a local store


def test_the_bytes_are_those_of_a_local_store(
    server: Server, root: str, fill: Fill, spec: StoreSpec, whole: Path, tree: Tree
) -> None:
    store = fill(root, spec)
    assert server.objects(root) == tree(whole)
    assert store.verify() == []
    assert FeatureStore.open(root).missing_shards() == []


def test_a_store_may_be_all_of_a_bucket(server: Server, fill: Fill, spec: StoreSpec, whole: Path, tree: Tree) -> None:
    server.bucket("bare")
    fill("s3://bare", spec)
    assert server.objects("s3://bare") == tree(whole)


def test_samples_are_those_that_were_written(root: str, fill: Fill, spec: StoreSpec, content: Any) -> None:
    fill(root, spec)
    rows, views = np.array([6, 0, 3, 6]), np.array([1, 0, 1, 0])
    maps = FeatureReader(FeatureStore.open(root)).read(rows, views)
    for name in spec.resolutions:
        written = np.concatenate([content(spec, shard)[0][name] for shard in range(spec.num_shards)])
        np.testing.assert_array_equal(maps[name], written[rows, views])


def test_writers_and_order_change_no_byte(
    server: Server, root: str, spec: StoreSpec, codec: dict[str, NDArray[Any]], write: Write, whole: Path, tree: Tree
) -> None:
    FeatureStore.open_or_create(root, spec).write_codec(codec)
    with ThreadPoolExecutor(3) as pool:
        handles = [FeatureStore.open(root) for _ in range(3)]
        list(pool.map(lambda pair: write(*pair, attempt="7"), zip(handles, [2, 0, 1], strict=True)))
    handles[0].views()
    assert server.objects(root) == tree(whole)


def test_a_run_goes_on_where_the_last_one_stopped(
    server: Server, root: str, spec: StoreSpec, fill: Fill, whole: Path, tree: Tree
) -> None:
    store = fill(root, spec, [1])
    assert store.missing_shards() == [0, 2]
    with pytest.raises(IncompleteError, match=r"lacks 2 of 3 shards \(0, 2\); run the same job again"):
        store.require_complete()
    with pytest.raises(IncompleteError):
        FeatureReader(store).read(np.array([0]), np.array([0]))
    fill(root, spec)
    assert server.objects(root) == tree(whole)


def test_more_shards_than_a_listing_holds(server: Server, root: str, spec: StoreSpec) -> None:
    """A server lists 1000 objects at a time."""
    store = FeatureStore.open_or_create(root, replace(spec, num_rows=1003, rows_per_shard=1))
    for shard in range(1001):
        server.client.put_object(Bucket=root.split("/")[2], Key=f"some/store/commits/{shard:05d}.json", Body=b"{}")
    assert store.missing_shards() == [1001, 1002]


def test_another_spec_is_refused_with_the_difference(server: Server, root: str, fill: Fill, spec: StoreSpec) -> None:
    fill(root, spec, [0])
    before = server.objects(root)
    with pytest.raises(StoreError, match="seed: the store has 0, this run wants 1"):
        FeatureStore.open_or_create(root, replace(spec, seed=1))
    assert server.objects(root) == before


def test_an_older_attempt_does_not_overwrite_a_newer_commit(
    server: Server, root: str, fill: Fill, spec: StoreSpec, write: Write
) -> None:
    store = fill(root, spec, [])
    write(store, 1, attempt="0005")
    before = server.objects(root)
    with pytest.raises(StoreError, match="shard 1 of attempt 0004 is not what the later attempt 0005 committed"):
        write(store, 1, attempt="0004", seed=1)
    assert server.objects(root) == before


def test_a_newer_attempt_replaces_an_older_commit(
    server: Server, root: str, fill: Fill, spec: StoreSpec, write: Write, whole: Path, tree: Tree
) -> None:
    store = fill(root, spec)
    write(store, 1, attempt="4", seed=1)
    assert store.verify() == []
    assert server.objects(root) != tree(whole)
    write(store, 1, attempt="5")
    store.views()
    assert server.objects(root) == tree(whole)


@pytest.mark.parametrize("seed", [0, 1])
def test_two_attempts_at_the_same_time(
    root: str, fill: Fill, spec: StoreSpec, write: Write, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """The other attempt commits after we found nothing committed, and before we write."""
    store, other, sweep = fill(root, spec, []), FeatureStore.open(root), arrays.sweep

    def interrupt(place: Any, *patterns: str) -> None:
        monkeypatch.setattr(arrays, "sweep", sweep)
        write(other, 1, attempt="2", seed=seed)

    monkeypatch.setattr(arrays, "sweep", interrupt)
    if seed == 0:
        write(store, 1)
        assert store.missing_shards() == [0, 2]
    else:
        with pytest.raises(StoreError, match="two attempts wrote different content to shard 1"):
            write(store, 1)
        assert store.missing_shards() == [0, 1, 2]
    assert store.verify() == []


# Damage

DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "first byte": lambda data: bytes([data[0] ^ 0x10]) + data[1:],
    "last byte": lambda data: data[:-1] + bytes([data[-1] ^ 0x10]),
    "cut": lambda data: data[:-7],
    "short": lambda data: data[:3],
    "empty": lambda _: b"",
}


@pytest.mark.parametrize("damage", [*DAMAGES, "gone"])
def test_damage_is_found_and_repaired(
    server: Server, root: str, fill: Fill, spec: StoreSpec, whole: Path, tree: Tree, damage: str
) -> None:
    store, bucket = fill(root, spec), root.split("/")[2]
    for name in spec.resolutions:
        (key,) = (key for key in tree(whole) if key.startswith(f"{name}/c.1."))
        if damage == "gone":
            server.client.delete_object(Bucket=bucket, Key=f"some/store/{key}")
        else:
            body = DAMAGES[damage](tree(whole)[key])
            server.client.put_object(Bucket=bucket, Key=f"some/store/{key}", Body=body)
        assert store.verify() == [1], name
        assert store.missing_shards() == []
        with pytest.raises(StoreError, match="is damaged"):
            FeatureReader(store).read(np.arange(3, 6), np.zeros(3, np.int64))
        assert store.verify(repair=True) == [1]
        assert store.missing_shards() == [1]
        fill(root, spec)
        assert server.objects(root) == tree(whole), name


def test_info_counts_the_objects(server: Server, root: str, fill: Fill, spec: StoreSpec) -> None:
    info = fill(root, spec, [0, 2]).info()
    assert info["missing_shards"] == [1]
    assert info["objects"] == len(server.objects(root)) + 2
    assert info["stored_bytes"] is None


# The cache of a node


def fetched() -> int:
    """Bytes that TensorStore has read of buckets so far."""
    (metric,) = ts.experimental_collect_matching_metrics("/tensorstore/kvstore/s3/bytes_read")
    return int(metric["values"][0]["value"])


def everything(root: str, cache: CacheConfig | None) -> dict[str, NDArray[Any]]:
    """All samples of a store, by a reader of its own."""
    store = FeatureStore.open(root, cache)
    rows, views = np.divmod(np.arange(store.spec.num_rows * store.spec.num_views), store.spec.num_views)
    return FeatureReader(store).read(rows, views)


def assert_equal(maps: dict[str, NDArray[Any]], wanted: dict[str, NDArray[Any]]) -> None:
    for name, values in wanted.items():
        np.testing.assert_array_equal(maps[name], values)


@pytest.fixture
def cache(tmp_path: Path) -> CacheConfig:
    return CacheConfig(folder=str(tmp_path / "cache"), gib=1)


def test_what_a_node_has_fetched_it_does_not_fetch_again(
    root: str, fill: Fill, spec: StoreSpec, cache: CacheConfig
) -> None:
    fill(root, spec)
    wanted = everything(root, None)
    before = fetched()
    assert_equal(everything(root, cache), wanted)
    first = fetched() - before
    assert_equal(everything(root, cache), wanted)
    second = fetched() - before - first
    assert first > spec.num_rows * spec.row_bytes
    assert second < first - spec.num_rows * spec.row_bytes


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_a_disk_has_spoiled_is_fetched_again(
    root: str, fill: Fill, spec: StoreSpec, cache: CacheConfig, damage: str
) -> None:
    fill(root, spec)
    wanted = everything(root, cache)
    for path in Path(cache.folder, PIECES).glob("*.r*"):
        path.write_bytes(DAMAGES[damage](path.read_bytes()))
    assert_equal(everything(root, cache), wanted)


def test_what_else_is_in_the_folder_of_a_cache_stays(
    root: str, fill: Fill, spec: StoreSpec, cache: CacheConfig
) -> None:
    fill(root, spec)
    theirs = Path(cache.folder, "theirs.tar")
    theirs.parent.mkdir()
    theirs.write_bytes(bytes(2**20))
    everything(root, cache.updated(gib=2**-12))
    assert theirs.stat().st_size == 2**20


def test_a_shard_that_was_written_anew_is_not_taken_from_the_cache(
    root: str, fill: Fill, spec: StoreSpec, write: Write, cache: CacheConfig
) -> None:
    store = fill(root, spec)
    before = everything(root, cache)
    write(store, 1, attempt="4", seed=1)
    after = everything(root, cache)
    assert (after["r08"] != before["r08"]).any()
    assert_equal(after, everything(root, None))


def test_damage_in_the_bucket_does_not_get_into_the_cache(
    server: Server, root: str, fill: Fill, spec: StoreSpec, cache: CacheConfig
) -> None:
    fill(root, spec)
    key = next(key for key in server.objects(root) if key.startswith("r16/c.1."))
    body = DAMAGES["first byte"](server.objects(root)[key])
    server.client.put_object(Bucket=root.split("/")[2], Key=f"some/store/{key}", Body=body)
    for _ in range(2):
        with pytest.raises(StoreError, match="is damaged"):
            everything(root, cache)


def test_a_local_store_needs_no_cache(whole: Path, cache: CacheConfig) -> None:
    everything(str(whole), cache)
    assert not Path(cache.folder).exists()


# Servers and buckets that are not there


@pytest.mark.parametrize("open_store", ["open", "open_or_create"])
def test_no_bucket(server: Server, spec: StoreSpec, open_store: str) -> None:
    more = [spec] if open_store == "open_or_create" else []
    with pytest.raises(StoreError) as caught:
        getattr(FeatureStore, open_store)("s3://nowhere/store", *more)
    assert str(caught.value) == (
        "s3://nowhere/store was refused or not reached: NOT_FOUND: NoSuchBucket: The specified bucket does not exist; "
        "check the bucket, the credentials, the network and AWS_ENDPOINT_URL, then run the command again"
    )


def test_no_store_in_the_bucket(root: str) -> None:
    with pytest.raises(StoreError, match="there is no feature store at s3://.*; run `uldscale extract`"):
        FeatureStore.open(root)


def test_a_bucket_that_is_removed_while_a_store_is_in_use(
    server: Server, root: str, fill: Fill, spec: StoreSpec, write: Write
) -> None:
    store = fill(root, spec, [0])
    server.remove(root)
    for act in (lambda: write(store, 1), store.missing_shards, store.verify, lambda: FeatureReader(store)):
        with pytest.raises(StoreError, match="refused or not reached: .*NoSuchBucket.*; check the bucket"):
            act()
    server.bucket(root.split("/")[2])
    assert server.objects(root) == {}


@pytest.mark.timeout(60)
def test_a_server_that_is_gone_is_told_in_bounded_time(
    mortal: Server, fill: Fill, spec: StoreSpec, write: Write, codec: dict[str, NDArray[Any]]
) -> None:
    root = mortal.bucket("mortal")
    store = fill(root, spec, [0])
    reader = FeatureReader(store)
    end(mortal)
    acts: list[Callable[[], object]] = [
        lambda: write(store, 1),
        lambda: store.write_codec(codec),
        lambda: reader.read(np.zeros(1, np.int64), np.zeros(1, np.int64)),
        lambda: FeatureStore.open(root),
        lambda: FeatureStore.open_or_create(root, spec),
        lambda: FeatureReader(store),
        store.missing_shards,
        store.verify,
        store.views,
        store.info,
    ]
    for act in acts:
        with pytest.raises(StoreError, match="^s3://mortal/some/store was refused or not reached: .*") as caught:
            act()
        assert "Could not connect to server; check the bucket" in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.timeout(120)
def test_a_server_that_falls_silent_before_the_record_is_written(
    mortal: Server, fill: Fill, spec: StoreSpec, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All arrays are there, but nothing that counts. It takes the waiting time of `arrays` two times."""
    monkeypatch.setitem(places._RETRIES, "max_retries", 1)
    store, add = fill(mortal.bucket("silent"), spec, [0]), arrays.add_document

    def freeze(place: Any, key: str, value: Any) -> bool:
        mortal.process.send_signal(signal.SIGSTOP)
        return add(place, key, value)

    monkeypatch.setattr(arrays, "add_document", freeze)
    began = time.monotonic()
    with pytest.raises(StoreError, match="refused or not reached: .*Timeout was reached.*; check the bucket"):
        write(store, 1)
    assert time.monotonic() - began < 60
    monkeypatch.setattr(arrays, "add_document", add)
    mortal.process.send_signal(signal.SIGCONT)
    assert any(key.startswith("r08/c.1.") for key in mortal.objects(store.root))
    assert store.missing_shards() == [1, 2]
    write(store, 1)
    assert store.verify() == []


def test_retries_end_within_a_minute() -> None:
    first, longest = (float(places._RETRIES[name].removesuffix("s")) for name in ("initial_delay", "max_delay"))
    assert sum(min(first * 2**retry, longest) + 1 for retry in range(places._RETRIES["max_retries"])) < 60
