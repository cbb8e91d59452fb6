"""The pool on real Ray actors: every item is finished or named, whatever happens to the actors."""

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import cloudpickle
from ray.exceptions import ActorDiedError, RayActorError

from uldscale.errors import DataError, IncompleteError, ModelError
from uldscale.runtime.actors import IN_FLIGHT, SETUP, STARTED, Member, Worker
from uldscale.runtime.pool import Finished, Pool
from uldscale.runtime.roles import RuntimeConfig, Team

cloudpickle.register_pickle_by_value(sys.modules[__name__])


@dataclass
class Square:
    """Squares numbers after `trouble(item, attempt)`; attempts are counted over all actors, by files in a folder."""

    folder: Path
    trouble: Callable[[int, int], None] = lambda item, attempt: None

    def setup(self) -> None:
        self.ready = True

    def process(self, item: int) -> int:
        attempt = len(list(self.folder.glob(f"{item}-*")))
        (self.folder / f"{item}-{attempt}").touch()
        self.trouble(item, attempt)
        assert self.ready
        return item * item


def run_pool(make: Callable[[], Worker], items: Sequence[int], config: RuntimeConfig) -> Iterator[Finished]:
    with Pool(make, "extract", config) as pool:
        yield from pool.run(items)


def attempts(folder: Path) -> dict[int, int]:
    names = [int(path.name.partition("-")[0]) for path in folder.iterdir()]
    return {item: names.count(item) for item in names}


def squares(finished: list[Finished]) -> dict[int, int]:
    assert all(done.seconds >= 0 for done in finished)
    return {done.item: done.result for done in finished}


def test_all_items_once(runtime: RuntimeConfig, tmp_path: Path) -> None:
    finished = list(run_pool(lambda: Square(tmp_path), range(8), runtime.updated(extract=Team(count=3))))
    assert squares(finished) == {item: item * item for item in range(8)}
    assert len(finished) == 8
    assert set(attempts(tmp_path).values()) == {1}


def test_no_items_need_no_actor(runtime: RuntimeConfig) -> None:
    assert list(run_pool(lambda: pytest.fail("made a worker"), [], runtime)) == []


def test_one_item_sets_up_one_actor(runtime: RuntimeConfig, tmp_path: Path) -> None:
    class Counted(Square):
        def setup(self) -> None:
            super().setup()
            (self.folder / f"100-{os.getpid()}").touch()

    finished = list(run_pool(lambda: Counted(tmp_path), [7], runtime.updated(extract=Team(count=3))))
    assert squares(finished) == {7: 49}
    assert attempts(tmp_path) == {7: 1, 100: 1}


def test_a_killed_actor_costs_an_attempt_of_its_item_only(runtime: RuntimeConfig, tmp_path: Path) -> None:
    def die_once(item: int, attempt: int) -> None:
        if item == 1 and attempt == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    config = runtime.updated(attempts=2, extract=Team(count=2))
    finished = list(run_pool(lambda: Square(tmp_path, die_once), range(9), config))
    assert squares(finished) == {item: item * item for item in range(9)}
    assert attempts(tmp_path)[1] == 2


def test_an_item_that_kills_actors_costs_no_other_item(runtime: RuntimeConfig, tmp_path: Path) -> None:
    """Items of an actor overlap, so that it is not known at first which of them killed it."""

    def kill(item: int, attempt: int) -> None:
        time.sleep(0.2)
        if item == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    finished: list[Finished] = []
    with pytest.raises(IncompleteError, match=r"^1 of 6 items failed 2 times each \(item 2: ActorDiedError"):
        finished.extend(run_pool(lambda: Square(tmp_path, kill), range(6), runtime.updated(attempts=2)))
    assert squares(finished) == {item: item * item for item in (0, 1, 3, 4, 5)}


@dataclass
class Meeting:
    """An item ends when as many are at work as an actor takes."""

    def setup(self) -> None:
        self.both = threading.Barrier(IN_FLIGHT, timeout=60)

    def process(self, item: int) -> int:
        self.both.wait()
        return os.getpid()


def test_items_of_an_actor_overlap_and_actors_stay_for_the_next_run(runtime: RuntimeConfig) -> None:
    with Pool(Meeting, "extract", runtime) as pool:
        first, second = ({done.result for done in pool.run(range(2 * IN_FLIGHT))} for _ in range(2))
    assert len(first) == 1
    assert first == second


def test_no_place_for_any_actor(runtime: RuntimeConfig, tmp_path: Path) -> None:
    role = Team(cpus=1000.0, memory_gib=2, node="gpu", count=2)
    config = runtime.updated(extract=role, wait_seconds=2.0)
    wants = r"runtime.extract wants 2 x \(1000 CPUs, 0 GPUs, 2 GiB of memory, a node with the label uldscale.role=gpu\)"
    with pytest.raises(
        IncompleteError, match=f"^{wants} and got no place within 2 s; the cluster has .* free, and 0 nodes"
    ):
        list(run_pool(lambda: Square(tmp_path), range(3), config))


def test_items_that_always_fail_are_named_after_the_others_are_done(runtime: RuntimeConfig, tmp_path: Path) -> None:
    def fail(item: int, attempt: int) -> None:
        if item == 0:
            os._exit(1)
        if item == 2:
            raise ValueError("item two is bad\nby nature")

    finished: list[Finished] = []
    with pytest.raises(IncompleteError, match="^2 of 5 items failed 1 times each") as raised:
        finished.extend(run_pool(lambda: Square(tmp_path, fail), range(5), runtime.updated(attempts=1)))
    assert squares(finished) == {1: 1, 3: 9, 4: 16}
    assert "item 0: ActorDiedError" in str(raised.value)
    assert re.search("item 2: ValueError: item two is bad[;)]", str(raised.value))
    assert isinstance(raised.value.__cause__, ActorDiedError)


def test_a_late_actor_is_replaced(runtime: RuntimeConfig, tmp_path: Path) -> None:
    def hang_once(item: int, attempt: int) -> None:
        if item == 1 and attempt == 0:
            time.sleep(600)

    config = runtime.updated(deadline_seconds=20.0, attempts=8)  # an actor may take 12 s to start
    finished = list(run_pool(lambda: Square(tmp_path, hang_once), range(3), config))
    assert squares(finished) == {0: 0, 1: 1, 2: 4}


@dataclass
class NeverReady:
    """A worker whose setup fails."""

    error: Exception

    def setup(self) -> None:
        raise self.error

    def process(self, item: int) -> None:
        raise AssertionError


def test_a_setup_that_always_fails_ends_the_pool(runtime: RuntimeConfig) -> None:
    pool = run_pool(lambda: NeverReady(ValueError("no model")), range(3), runtime.updated(attempts=2))
    with pytest.raises(
        IncompleteError, match="2 actors in a row failed in their setup .ValueError: no model"
    ) as raised:
        next(pool)
    assert isinstance(raised.value.__cause__, ValueError)


def test_nodes_that_are_lost_in_a_row_end_no_pool(runtime: RuntimeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """While actors start there: that says nothing about the next node, as an exception does, or a process that dies by itself."""
    monkeypatch.setattr(Member, "kill", lambda member: None)
    pool, here = Pool(Meeting, "extract", runtime.updated(attempts=2)), ray.get_runtime_context().get_node_id()

    def fail(item: str, node: str | None, error: Exception) -> None:
        pool._members.append(Member(None, node=node))
        pool._drop(pool._members[-1], item, error)

    for _ in range(5):
        fail(SETUP, "gone", ActorDiedError())
        fail(STARTED, None, RayActorError(error_msg="The actor died because its node has died. Node Id: 1"))
    fail(SETUP, here, ActorDiedError())
    with pytest.raises(IncompleteError, match="2 actors in a row failed in their setup"):
        fail(STARTED, None, ActorDiedError())


def test_the_users_turn_comes_at_once(runtime: RuntimeConfig) -> None:
    start = time.monotonic()
    with pytest.raises(ModelError, match="^weights are not there; download them$"):
        next(run_pool(lambda: NeverReady(ModelError("weights are not there; download them")), range(3), runtime))
    assert time.monotonic() - start < 60


def test_a_disk_that_was_away_for_a_moment_costs_an_attempt(runtime: RuntimeConfig, tmp_path: Path) -> None:
    def fail_once(item: int, attempt: int) -> None:
        if item == 1 and attempt == 0:
            raise DataError("images/1.png could be read when it was indexed, but now: stale file handle")

    finished = list(run_pool(lambda: Square(tmp_path, fail_once), range(3), runtime.updated(attempts=2)))
    assert squares(finished) == {0: 0, 1: 1, 2: 4}
    assert attempts(tmp_path)[1] == 2


def test_it_is_the_users_turn_after_the_last_attempt(runtime: RuntimeConfig, tmp_path: Path) -> None:
    def fail(item: int, attempt: int) -> None:
        if item == 1:
            raise DataError("images/1.png has changed since it was indexed")

    with pytest.raises(DataError, match="^images/1.png has changed since it was indexed$"):
        list(run_pool(lambda: Square(tmp_path, fail), range(3), runtime.updated(attempts=2)))
    assert attempts(tmp_path)[1] == 2


def test_what_came_while_nobody_looked_is_not_late(runtime: RuntimeConfig, tmp_path: Path) -> None:
    with Pool(lambda: Square(tmp_path), "extract", runtime.updated(attempts=1)) as pool:
        finished = pool.run(range(6))
        first = next(finished)
        pool._runtime = pool._runtime.updated(deadline_seconds=0.5)
        time.sleep(1.5)
        # Nothing shall be late from here on but what was so before.
        rest = [next(finished)]
        pool._runtime = runtime.updated(attempts=1)
        rest += finished
    assert squares([first, *rest]) == {item: item * item for item in range(6)}
    assert set(attempts(tmp_path).values()) == {1}


@dataclass
class Witness:
    """Tells about the process that it lives in."""

    def setup(self) -> None:
        pass

    def process(self, item: int) -> dict[str, Any]:
        return {"pid": os.getpid(), "threads": os.environ["OMP_NUM_THREADS"], "torch": "torch" in sys.modules}


def test_an_actor_has_its_threads_and_dies_with_the_pool(runtime: RuntimeConfig) -> None:
    pool = run_pool(Witness, range(9), runtime.updated(extract=Team(threads=3)))
    seen = next(pool).result
    assert (seen["threads"], seen["torch"]) == ("3", False)
    pool.close()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and Path(f"/proc/{seen['pid']}").exists():
        time.sleep(0.05)
    assert not Path(f"/proc/{seen['pid']}").exists()
