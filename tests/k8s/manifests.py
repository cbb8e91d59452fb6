"""What kustomize makes of an overlay, and the places in it that the tests look at."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml

from uldscale.job import Job, load_job
from uldscale.runtime.roles import LABEL, Role

ROOT = Path(__file__).parents[2]
OVERLAYS = ("cpu", "gpu", "gpu-spot", "kueue")
GPU = "nvidia.com/gpu"

Document = dict[str, Any]

_UNITS = {
    "": 1.0,
    "m": 1e-3,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    **{f"{s}i": 2.0 ** (10 * i) for i, s in enumerate("KMGT", 1)},
}


@cache
def build(folder: Path) -> list[Document]:
    """The documents of a kustomization, to be read only; the test is skipped without kubectl."""
    if not shutil.which("kubectl"):
        pytest.skip("no kubectl, whose kustomize builds the manifests")
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def quantity(text: object) -> float:
    """A quantity of Kubernetes, such as 500m or 2Gi, as a number."""
    number, unit = re.fullmatch(r"([\d.]+)(\w*)", str(text)).groups()  # type: ignore[union-attr]
    return float(number) * _UNITS[unit]


@dataclass(frozen=True)
class Manifests:
    """The documents of an overlay."""

    documents: list[Document]

    def all(self, kind: str) -> list[Document]:
        """All documents of a kind."""
        return [document for document in self.documents if document["kind"] == kind]

    def names(self, kind: str) -> set[str]:
        """Names of all documents of a kind."""
        return {document["metadata"]["name"] for document in self.all(kind)}

    @property
    def ray_job(self) -> Document:
        """The only RayJob."""
        (job,) = self.all("RayJob")
        return job

    @property
    def cluster(self) -> Document:
        """The RayCluster that the RayJob makes."""
        cluster: Document = self.ray_job["spec"]["rayClusterSpec"]
        return cluster

    @property
    def groups(self) -> dict[str, Document]:
        """Worker groups by name."""
        return {group["groupName"]: group for group in self.cluster["workerGroupSpecs"]}

    @property
    def ray_pods(self) -> dict[str, Document]:
        """Pod templates of head and worker groups."""
        return {
            "head": self.cluster["headGroupSpec"]["template"],
            **{name: group["template"] for name, group in self.groups.items()},
        }

    @property
    def pods(self) -> dict[str, Document]:
        """All pod templates."""
        return {**self.ray_pods, "submitter": self.ray_job["spec"]["submitterPodTemplate"]}

    @property
    def containers(self) -> dict[str, Document]:
        """All containers by their pod, and the autoscaler, which KubeRay adds to the head."""
        ours = {name: pod["spec"]["containers"][0] for name, pod in self.pods.items()}
        return {**ours, **({"autoscaler": self.autoscaler} if self.autoscaler else {})}

    @property
    def autoscaler(self) -> Document:
        """What is said of the autoscaler; empty without one."""
        options: Document = self.cluster.get("autoscalerOptions", {})
        return options

    @property
    def command(self) -> list[str]:
        """Words of the entrypoint."""
        words: list[str] = self.ray_job["spec"]["entrypoint"].split()
        return words

    @property
    def job_volume(self) -> tuple[str, str]:
        """(name of the ConfigMap, folder) of the job file in the head."""
        pod = self.ray_pods["head"]["spec"]
        (volume,) = (volume for volume in pod["volumes"] if "configMap" in volume)
        (folder,) = (
            mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == volume["name"]
        )
        return volume["configMap"]["name"], folder

    @cached_property
    def job(self) -> Job:
        """The job that the entrypoint runs, with its overrides."""
        name, folder = self.job_volume
        (files,) = (document["data"] for document in self.all("ConfigMap") if document["metadata"]["name"] == name)
        with TemporaryDirectory() as place:
            for file, text in files.items():
                (Path(place) / file).write_text(text, "utf-8")
            return load_job(self.command[2].replace(folder, place), self.command[3:])

    @property
    def roles(self) -> dict[str, Role]:
        """What the job's processes reserve, by role."""
        return self.job.runtime.roles

    def group_of(self, role: Role) -> Document | None:
        """The worker group on whose nodes a role runs."""
        found = [group for group in self.groups.values() if group.get("labels", {}).get(LABEL) == role.node]
        return found[0] if found else None

    def volume_of_claim(self, pod: Document) -> str | None:
        """Where a pod's container mounts a PersistentVolumeClaim."""
        claims = {volume["name"] for volume in pod["spec"].get("volumes", []) if "persistentVolumeClaim" in volume}
        mounts = pod["spec"]["containers"][0].get("volumeMounts", [])
        return next((mount["mountPath"] for mount in mounts if mount["name"] in claims), None)
