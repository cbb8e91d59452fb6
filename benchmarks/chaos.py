"""Is a run that loses twenty processes and nodes the same as a quiet one?

    python benchmarks/chaos.py [--kills 20] [--seed 0]

Three Ray nodes on this machine, beside a head without work, run a small job on generated faces. A seeded clock strikes every 5 to
25 seconds; it kills an actor, a training worker, the relabel service, or a whole node, in whose place another comes. A run that ends
with exit code 3 is started again. Its store, labels and methods are then compared with those of the same job in one process that
nobody disturbed, and its log is searched for steps that were left out or gave two losses. Prints one JSON line.
"""

import argparse
import json
import os
import random
import subprocess
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from ray.cluster_utils import Cluster
from watched import COMMAND, parts_below, same

from uldscale.runs import RunFolder
from uldscale.store.features import FeatureStore

SETTINGS = [
    "data.train=160", "data.test=40", "extract.store.rows_per_shard=10", "train.checkpoint_every=10",
    "train.bootstrap.steps=60", "train.d_uld.steps=60", "train.d_uld.relabel_every=20", "train.d_uld_pose_proxy.steps=60",
    "train.d_uld_pp.steps=60", "train.d_uld_pp.relabel_every=20", "runtime.train.threads=1", "runtime.train.cpus=1",
]  # fmt: skip
PATIENT = ["runtime.attempts=20", "runtime.max_failures=20"]
NODES, CPUS = 3, 3
WAITS = 5.0, 25.0
NODE = "node"


def command(name: str, folder: Path, *overrides: str) -> list[str]:
    own = [f"name={name}", f"output={folder}", *SETTINGS, *overrides]
    return [*COMMAND, "run", "uldscale/demo.yaml", *own]


class Chaos:
    """A cluster in which things die."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        self._nodes = [self._cluster.add_node(num_cpus=CPUS) for _ in range(NODES)]
        self.address = self._cluster.address
        self.killed: Counter[str] = Counter()

    def wait(self) -> float:
        """Seconds until the clock strikes again."""
        return self._random.uniform(*WAITS)

    def strike(self) -> None:
        """Kill something of what there is."""
        found = [(part, process) for part, process in parts_below(psutil.Process()) if part != "raylet"]
        part = self._random.choice([*sorted({part for part, _ in found}), NODE])
        if part == NODE:
            self._cluster.remove_node(self._nodes.pop(self._random.randrange(NODES)), allow_graceful=False)
            self._nodes.append(self._cluster.add_node(num_cpus=CPUS))
        else:
            with suppress(psutil.NoSuchProcess):
                self._random.choice([process for kind, process in found if kind == part]).kill()
        self.killed[part] += 1

    def end(self) -> None:
        self._cluster.shutdown()


def disturbed(folder: Path, kills: int, seed: int) -> dict[str, Any]:
    """The run in the cluster."""
    chaos, start = Chaos(seed), time.monotonic()
    exits: list[int] = []
    environment = os.environ | {"RAY_ADDRESS": chaos.address}
    try:
        while not exits or exits[-1] == 3:
            with subprocess.Popen(command("disturbed", folder, *PATIENT), env=environment) as process:
                while process.poll() is None:
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(chaos.wait())
                    if process.poll() is None and chaos.killed.total() < kills:
                        chaos.strike()
            exits.append(process.returncode)
    finally:
        chaos.end()
    return {"killed": dict(chaos.killed), "exit_codes": exits, "seconds": round(time.monotonic() - start)}


def steps(run: RunFolder) -> dict[tuple[str, int], set[float]]:
    """Losses by stage and step."""
    found: dict[tuple[str, int], set[float]] = {}
    for event in run.read_metrics():
        if event["event"] == "step":
            found.setdefault((event["stage"], event["step"]), set()).add(event["loss"])
    return found


def compare(quiet: RunFolder, other: RunFolder) -> dict[str, Any]:
    ours, theirs = steps(other), steps(quiet)
    return {
        "same": {
            name: same(f"{quiet.root}/{name}", f"{other.root}/{name}") for name in ("store.zarr", "labels", "methods")
        },
        "steps_left_out": len(theirs.keys() - ours.keys()),
        "steps_with_two_losses": sum(len(losses) > 1 for losses in ours.values()),
        "steps_unlike_the_quiet_run": sum(ours.get(step) != losses for step, losses in theirs.items()),
        "missing_shards": len(FeatureStore.open(other.store).missing_shards()),
    }  # fmt: skip


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--kills", type=int, default=20)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    os.environ["RAY_AUTH_MODE"] = "disabled"
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        found = disturbed(folder, given.kills, given.seed)
        start = time.monotonic()
        subprocess.run(command("quiet", folder, "runtime.ray=false"), check=True)
        seconds = round(time.monotonic() - start)
        result = compare(RunFolder(f"{folder}/quiet"), RunFolder(f"{folder}/disturbed"))
    print(json.dumps({**found, "quiet_seconds": seconds, **result, "seed": given.seed}))


if __name__ == "__main__":
    main()
