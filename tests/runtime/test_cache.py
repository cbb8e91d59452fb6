"""The cache of a node: what was put in comes out or nothing, whatever dies, and its size has an end."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from uldscale.errors import ConfigError
from uldscale.runtime.cache import Cache, CacheConfig

SIZE = 10_000


def piece(number: int, size: int = SIZE) -> NDArray[np.int8]:
    return np.random.default_rng(number).integers(-128, 128, size, np.int8)


def found(cache: Cache, name: str, place: int) -> NDArray[np.int8] | None:
    values = np.zeros(SIZE, np.int8)
    return values if cache.read(name, place, values) else None


def used(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.iterdir())


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(CacheConfig(folder=str(tmp_path / "a/b"), gib=1))


def test_what_is_put_in_comes_out(cache: Cache, tmp_path: Path) -> None:
    assert found(cache, "s.r08", 3) is None
    cache.write("s.r08", 3, piece(3))
    np.testing.assert_array_equal(found(cache, "s.r08", 3), piece(3))
    for name, place in (("s.r08", 0), ("s.r08", 2), ("s.r08", 4), ("s.r16", 3)):
        assert found(cache, name, place) is None
    other = Cache(CacheConfig(folder=str(tmp_path / "a/b"), gib=1))
    np.testing.assert_array_equal(found(other, "s.r08", 3), piece(3))


def test_zeros_are_a_piece_and_a_hole_is_none(cache: Cache) -> None:
    cache.write("s", 5, np.zeros(SIZE, np.int8))
    assert found(cache, "s", 5) is not None
    assert found(cache, "s", 4) is None


@pytest.mark.parametrize("damage", ["flipped", "cut", "swapped"])
def test_damage_is_nothing(cache: Cache, tmp_path: Path, damage: str) -> None:
    for place in (0, 1):
        cache.write("s", place, piece(place))
    path = tmp_path / "a/b/s"
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes({"flipped": content, "cut": content[:-3], "swapped": content[1:] + b"x"}[damage])
    assert found(cache, "s", 1) is None


def test_the_limit_holds_and_what_is_used_stays(tmp_path: Path) -> None:
    limit = 3 * 2**20
    cache = Cache(CacheConfig(folder=str(tmp_path), gib=limit / 2**30))
    for number in range(100):
        for place in range(10):
            cache.write(f"s{number}", place, piece(number))
        os.utime(tmp_path / f"s{number}", ns=(number, number))
        assert found(cache, "s0", 0) is not None
        os.utime(tmp_path / "s0", ns=(10**6, 10**6))
        assert used(tmp_path) <= limit
    assert found(cache, "s99", 9) is not None
    assert found(cache, "s1", 0) is None
    assert used(tmp_path) > limit / 2


def test_reading_is_using(cache: Cache, tmp_path: Path) -> None:
    cache.write("s", 0, piece(0))
    os.utime(tmp_path / "a/b/s", (1, 1))
    found(cache, "s", 0)
    assert (tmp_path / "a/b/s").stat().st_mtime > 1


def test_a_cache_that_is_too_full_is_emptied_by_the_first_who_writes(cache: Cache, tmp_path: Path) -> None:
    for number in range(100):
        cache.write(f"s{number}", 0, piece(number))
    smaller = Cache(CacheConfig(folder=str(tmp_path / "a/b"), gib=2**-12))
    smaller.write("s100", 0, piece(100))
    assert used(tmp_path / "a/b") <= 2**18


def test_many_write_and_read_at_the_same_time(tmp_path: Path) -> None:
    caches = [Cache(CacheConfig(folder=str(tmp_path), gib=2**-9)) for _ in range(4)]

    def work(turn: int) -> int:
        hits = 0
        for place in np.random.default_rng(turn).integers(0, 40, 100).tolist():
            values = found(caches[turn % 4], f"s{place % 7}", place)
            hits += values is not None
            if values is None:
                caches[turn % 4].write(f"s{place % 7}", place, piece(place))
            else:
                np.testing.assert_array_equal(values, piece(place))
        return hits

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(work, range(16))) > 0


WRITER = """
import sys
import numpy as np
from uldscale.runtime.cache import Cache, CacheConfig
cache = Cache(CacheConfig(folder=sys.argv[1], gib=1))
for turn in range(10**6):
    number = turn % 20
    cache.write(f"s{number}", number, np.random.default_rng(number).integers(-128, 128, 10**6, np.int8))
    print(turn, flush=True)
"""


def test_kills_leave_nothing_that_was_not_put_in(tmp_path: Path) -> None:
    cache = Cache(CacheConfig(folder=str(tmp_path), gib=1))
    for kill in range(3):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.01 * kill)
            process.send_signal(signal.SIGKILL)
        values = np.zeros(10**6, np.int8)
        hits = [number for number in range(20) if cache.read(f"s{number}", number, values)]
        assert hits
        for number in hits:
            assert cache.read(f"s{number}", number, values)
            np.testing.assert_array_equal(values, piece(number, 10**6))


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match=r"the cache .*file/x cannot be used: .*; make room, or set runtime.cache"):
        Cache(CacheConfig(folder=str(tmp_path / "file/x"), gib=1))


@pytest.mark.parametrize(("folder", "gib"), [("s3://bucket/cache", 1), ("/x", 0)])
def test_settings_that_make_no_cache(folder: str, gib: float) -> None:
    with pytest.raises(ValueError, match="local disk|greater than 0"):
        CacheConfig(folder=folder, gib=gib)
