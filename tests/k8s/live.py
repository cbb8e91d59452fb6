"""A Ray cluster of raylets on this machine with a role each, as worker groups have them, and a Prometheus that watches it."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import psutil
import yaml

ROLES = {"_Actor": "extract", "RayTrainWorker": "train", "_Service": "relabel"}
"""Where the actors of a run belong, by the name of their class in Ray."""
REPORT = {"RAY_metrics_report_interval_ms": "2500"}


class LiveCluster:
    """A head that takes no work, and a raylet for each role, all of them with a token."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: dict[str, set[str]] = {name: set() for name in ROLES}
        self._head, self._dashboard, self._token = _free_port(), _free_port(), secrets.token_hex(32)
        head = ["--head", f"--port={self._head}", f"--dashboard-port={self._dashboard}", "--num-cpus=0"]
        self._raylets = {"head": self._start("head", *head)}
        wait_for(self._answers, self._raylets["head"])
        for role in ("extract", "train", "relabel"):
            self.add(role)
        # It takes jobs only a while after it answers.
        empty = folder / "empty"
        empty.mkdir()
        while self.submit(empty, "true").wait():
            time.sleep(1)

    def add(self, role: str) -> None:
        """One more raylet of a role."""
        label, before = f"--labels=uldscale.role={role}", self._nodes()
        self._raylets[role] = self._start(role, f"--address=127.0.0.1:{self._head}", "--num-cpus=4", label)
        # Two that start at the same time on one machine take each other's ports.
        # A count would not do: a node that was lost may be listed for a while.
        wait_for(lambda: self._nodes() - before, self._raylets[role])

    def submit(self, folder: Path, *command: str) -> subprocess.Popen[str]:
        """`ray job submit` of a command in a folder."""
        address = f"--address=http://127.0.0.1:{self._dashboard}"
        submit = [_binary("ray"), "job", "submit", address, "--working-dir", str(folder), "--", *command]
        return self._popen(submit, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def actors(self) -> list[tuple[str, str, int]]:
        """(class, role of its node, process) of the actors of a run that are alive; also notes where they are."""
        labels = {node["node_id"]: node["labels"].get("uldscale.role", "head") for node in self._list("nodes")}
        known = [
            (actor["class_name"].split(".")[-1], actor) for actor in self._list("actors") if actor["state"] == "ALIVE"
        ]
        found = [(name, labels[actor["node_id"]], int(actor["pid"])) for name, actor in known if name in ROLES]
        for name, role, _ in found:
            self.seen[name].add(role)
        return found

    def kill_actor(self, name: str) -> None:
        """SIGKILL for one actor of a class."""
        psutil.Process(next(process for kind, _, process in self.actors() if kind == name)).kill()

    def lose_node(self, role: str) -> None:
        """A node dies with all that runs on it, and another comes in its place."""
        _kill(self._raylets[role])
        self.add(role)

    def reclaim_node(self, role: str, reached: Callable[[], object]) -> None:
        """A cloud takes a node away: Ray hears of it, and when something is reached the node is gone."""
        (node,) = [node["node_id"] for node in self._list("nodes") if node["labels"].get("uldscale.role") == role]
        drain = [
            _binary("ray"), "drain-node", f"--address=127.0.0.1:{self._head}", f"--node-id={node}",
            "--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=taken away", "--deadline-remaining-seconds=120",
        ]  # fmt: skip
        assert self._popen(drain).wait() == 0
        wait_for(reached, self._raylets[role])
        self.lose_node(role)

    def shutdown(self) -> None:
        """End all of it."""
        for raylet in self._raylets.values():
            _kill(raylet)

    def _start(self, name: str, *options: str) -> subprocess.Popen[str]:
        # In a folder that they share they would unpack the files of the job under each other's feet.
        own = [
            f"--temp-dir={self.folder}/{name}",
            f"--dashboard-agent-listen-port={_free_port()}",
            "--block",
            "--disable-usage-stats",
            "--object-store-memory=200000000",
        ]
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return self._popen([_binary("ray"), "start", *options, *own], **silent)

    def _popen(self, command: list[str], **streams: Any) -> subprocess.Popen[str]:
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self._token}
        # The command of a job is that of this environment, whether or not somebody has activated it.
        token["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        return subprocess.Popen(command, env=own | token | REPORT, text=True, **streams)

    def _answers(self) -> bool:
        try:
            return len(self._nodes()) == 1
        except (OSError, ValueError):
            return False

    def _nodes(self) -> set[str]:
        return {node["node_id"] for node in self._list("nodes")}

    def _list(self, kind: Literal["nodes", "actors"]) -> list[dict[str, Any]]:
        url = f"http://127.0.0.1:{self._dashboard}/api/v0/{kind}?detail=true&limit=1000"
        asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {self._token}"})
        with urllib.request.urlopen(asked, timeout=30) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]["result"]
        return [each for each in found if each["state"] != "DEAD"]


class Prometheus:
    """A real one, which finds the nodes by the file that Ray writes for it."""

    def __init__(self, folder: Path, ray_folder: Path, targets: list[str]) -> None:
        self._port = _free_port()
        discovery = {"files": [str(ray_folder / "head" / "prom_metrics_service_discovery.json")]}
        scrapes = [
            {"job_name": "ray", "file_sd_configs": [discovery]},
            {"job_name": "outside", "static_configs": [{"targets": targets}]},
        ]
        config = {"global": {"scrape_interval": "1s", "evaluation_interval": "1s"}, "scrape_configs": scrapes}
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        command = [
            str(shutil.which("prometheus")), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{self._port}", "--log.level=error",
        ]  # fmt: skip
        self._process = subprocess.Popen(command)

    def query(self, query: str, start: float, end: float) -> list[Any]:
        """Series of a query over a time."""
        asked = urllib.parse.urlencode({"query": query, "start": start, "end": end, "step": 1})
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/api/v1/query_range?{asked}", timeout=30) as answer:
            result: list[Any] = json.load(answer)["data"]["result"]
        return result

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()


@contextmanager
def live_cluster(folder: Path) -> Iterator[LiveCluster]:
    """A cluster for as long as the block runs."""
    cluster = LiveCluster(folder)
    try:
        yield cluster
    finally:
        cluster.shutdown()


def wait_for(reached: Callable[[], object], process: subprocess.Popen[str], seconds: float = 300) -> None:
    """Until something is reached while a process runs."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.2)


def _kill(process: subprocess.Popen[str]) -> None:
    for each in [*psutil.Process(process.pid).children(recursive=True), process]:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait()


def _binary(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
