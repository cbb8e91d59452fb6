"""The image, as far as it can be told without building one.

The package is built as the Dockerfile builds it, and runs as the manifests run it: not as root, on a read-only file system, with nothing
but the folders that a pod of the cpu overlay has, with the variables of the Dockerfile and without a network. What is not covered: the
base image and its packages, the installation of the dependencies (those of this environment are used), GPUs.
"""

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from consistency import DOCKERFILE, targets
from manifests import ROOT, Document, Manifests, build
from security import environment

from uldscale.store.features import FeatureStore

pytestmark = pytest.mark.cluster

SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/etc/alternatives", "/etc/ld.so.cache", "/etc/hosts", "/etc/nsswitch.conf")

PACKAGE = "/opt/uldscale"
"""Where the package is in a pod; pip of the image puts it elsewhere."""

TINY = [
    "data.train=8",
    "data.test=4",
    "data.size=64",
    *(f"runtime.{role}.node=null" for role in ("extract", "train", "relabel", "locate")),
]
"""The demo in seconds, on one machine."""


def test_targets() -> None:
    assert targets() == ["cpu", "cu12", "cu13"]


def hadolint(dockerfile: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if not program:
        pytest.skip("no hadolint, which looks through Dockerfiles")
    return subprocess.run([program, "-"], input=dockerfile, capture_output=True, text=True)


def test_the_dockerfile_is_clean() -> None:
    done = hadolint(DOCKERFILE)
    assert not done.returncode, done.stdout


def test_an_unclean_dockerfile_would_be_seen() -> None:
    assert "DL3006" in hadolint("FROM python\n").stdout


def test_what_is_copied_is_not_ignored() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    copied = {name for line in re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE) for name in line.split()}
    assert copied == sent
    assert all((ROOT / name).exists() for name in sent)


@dataclass(frozen=True)
class Pod:
    """The head of the cpu overlay, without Kubernetes: a program in it sees what it would see there."""

    spec: Document
    package: Path
    folder: Path

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["bwrap", *self._root(), *self._mounts(), *self._python(), "--remount-ro", "/", *self._user(), *command],
                              capture_output=True, text=True, timeout=240)  # fmt: skip

    def _root(self) -> list[str]:
        words = [word for path in SYSTEM for word in ("--ro-bind-try", path, path)]
        return [*words, "--ro-bind", str(self.package), PACKAGE, "--proc", "/proc", "--dev", "/dev"]

    def _mounts(self) -> list[str]:
        words = ["--ro-bind", str(self.folder / "passwd"), "/etc/passwd"]
        for mount in self.spec["containers"][0]["volumeMounts"]:
            (self.folder / mount["name"]).mkdir(exist_ok=True)
            bind = "--ro-bind" if mount.get("readOnly") else "--bind"
            words += [bind, str(self.folder / mount["name"]), mount["mountPath"]]
        return words

    def _python(self) -> list[str]:
        """After the folders of the pod, one of which is /tmp, where this environment may be."""
        return [word for path in (sys.base_prefix, sys.prefix) for word in ("--ro-bind", path, path)]

    def _user(self) -> list[str]:
        security = self.spec["securityContext"]
        own = {"PATH": f"{PACKAGE}/bin:{sys.prefix}/bin:/usr/bin:/bin", "PYTHONPATH": PACKAGE}
        variables = [word for pair in {**environment(), **own}.items() for word in ("--setenv", *pair)]
        return [
            "--unshare-user", "--uid", str(security["runAsUser"]), "--gid", str(security["runAsGroup"]), "--cap-drop", "ALL",
            "--unshare-pid", "--unshare-net", "--unshare-ipc", "--die-with-parent", "--clearenv", *variables,
        ]  # fmt: skip


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our package as a wheel has it."""
    folder = tmp_path_factory.mktemp("image")
    (stage,) = re.findall(r"AS wheel$(.*?)^FROM", DOCKERFILE, re.MULTILINE | re.DOTALL)
    for name in (name for line in re.findall(r"^COPY (.+) \S+$", stage, re.MULTILINE) for name in line.split()):
        source, target = ROOT / name, folder / "source" / name
        target.parent.mkdir(exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    pip = [sys.executable, "-m", "pip", "--quiet"]
    build_wheel = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder / "wheels"), "."]
    subprocess.run(build_wheel, cwd=folder / "source", check=True)
    (wheel,) = (folder / "wheels").glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(folder / "package"), str(wheel)], check=True)
    return folder / "package"


@pytest.fixture(scope="module")
def pod(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Pod:
    """A pod with the cpu overlay's job file in it."""
    if not shutil.which("bwrap"):
        pytest.skip("no bwrap (bubblewrap), which makes the read-only file system")
    manifests, folder = Manifests(build(ROOT / "k8s/overlays/cpu")), tmp_path_factory.mktemp("pod")
    spec = manifests.ray_pods["head"]["spec"]
    (folder / "passwd").write_text(f"uldscale:x:{spec['securityContext']['runAsUser']}:0::/home/uldscale:/bin/bash\n")
    (folder / "job").mkdir()
    (folder / "job/job.yaml").write_text(yaml.safe_dump(manifests.job.model_dump(mode="json")), "utf-8")
    pod = Pod(spec, package, folder)
    if (done := pod.run("true")).returncode:
        pytest.skip(f"bwrap may not make a file system here: {done.stderr}")
    return pod


def test_nothing_else_is_writable(pod: Pod) -> None:
    """Else the other tests would say nothing."""
    done = pod.run("bash", "-c", "id -u; touch /x; touch /etc/uldscale/x; touch /usr/x; touch /tmp/x && rm /tmp/x")
    assert done.stdout.split() == [str(pod.spec["securityContext"]["runAsUser"])]
    assert done.stderr.count("Read-only file system") == 3
    assert not done.returncode


def test_help(pod: Pod) -> None:
    done = pod.run("uldscale", "--help")
    assert not done.returncode, done.stderr
    assert "landmarks" in done.stdout


def test_a_plan(pod: Pod) -> None:
    done = pod.run("uldscale", "plan", "/etc/uldscale/job.yaml", *TINY)
    assert not done.returncode, done.stderr
    assert "images" in done.stdout


def test_extraction(pod: Pod) -> None:
    """Without Ray; a whole run takes minutes, since DeepSpeed compiles first."""
    done = pod.run("uldscale", "extract", "/etc/uldscale/job.yaml", "runtime.ray=false", *TINY)
    assert not done.returncode, done.stderr
    assert FeatureStore.open(str(pod.folder / "shared/runs/demo/store.zarr")).missing_shards() == []


def test_a_node_starts_and_its_hook_ends_it(pod: Pod) -> None:
    """With the tokens, ports and parameters that KubeRay gives it, and the hook of a worker that has no work."""
    container = Manifests(build(ROOT / "k8s/overlays/cpu")).containers["train"]
    *_, hook = container["lifecycle"]["preStop"]["exec"]["command"]
    start = "ray start --head --num-cpus=1 --object-store-memory=536870912 --dashboard-host=0.0.0.0 --metrics-export-port=8080"
    token = f"export RAY_AUTH_MODE=token RAY_AUTH_TOKEN={'0' * 64} RAY_ADDRESS=127.0.0.1:6379"
    done = pod.run("bash", "-c", f"{token}; {start} && {hook} && echo ended")
    assert not done.returncode, done.stderr
    assert done.stdout.endswith("ended\n")
