"""What the parts of the manifests, the job file, the Dockerfile and the package say of one another; sizes are in `resources.py`."""

import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import PurePosixPath

from manifests import ROOT, Manifests

DOCKERFILE = (ROOT / "k8s/images/Dockerfile").read_text("utf-8")
PORTS = {"gcs-server": 6379, "dashboard": 8265, "metrics": 8080, "as-metrics": 44217, "dash-metrics": 44227}
"""Those of KubeRay and Ray, by the names that KubeRay, Services and monitors know them by."""


def command(manifests: Manifests) -> Iterator[str]:
    """The entrypoint is the laptop's command, on the job file that is mounted, and is what the submitter submits."""
    submitter = manifests.containers["submitter"]
    if submitter["command"] != ["/submitter"] or submitter["args"][0] != "--":
        yield f"the submitter is not called as its image wants: {submitter['command']} {submitter['args']}"
    if " ".join(submitter["args"][1:]).split() != manifests.command:
        yield f"the submitter submits {submitter['args']}, not the entrypoint {manifests.command}"
    config_map, folder = manifests.job_volume
    if manifests.command[:2] != ["uldscale", "run"] or PurePosixPath(manifests.command[2]).parent.as_posix() != folder:
        yield f"the entrypoint {manifests.command} is not `uldscale run` of a file in {folder}"
    if config_map not in manifests.names("ConfigMap"):
        yield f"the ConfigMap {config_map} of the job file is not there"


def nodes(manifests: Manifests) -> Iterator[str]:
    """Each role has a group, each group a role; nothing runs on the head."""
    used = set()
    for name, role in manifests.roles.items():
        group = manifests.group_of(role) if role.node else None
        if group:
            used.add(group["groupName"])
        else:
            yield f"runtime.{name}.node is {role.node!r}, which no worker group has as its label"
    yield from (f"nothing runs in the group {name}" for name in set(manifests.groups) - used)
    if manifests.cluster["headGroupSpec"]["rayStartParams"].get("num-cpus") != "0":
        yield "the head takes work"


def images(manifests: Manifests) -> Iterator[str]:
    """One image of the package's version for all nodes, from a target of the Dockerfile; versions of Ray and KubeRay as pinned."""
    ours = {manifests.containers[name]["image"] for name in manifests.ray_pods}
    tag = re.compile(rf"(.+/)?uldscale:{re.escape(metadata.version('uldscale'))}-({'|'.join(targets())})")
    if len(ours) != 1 or not tag.fullmatch(min(ours)):
        yield f"images of the nodes: {sorted(ours)}"
    pinned = re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE)
    if not pinned or manifests.cluster["rayVersion"] != pinned[1]:
        yield f"rayVersion is {manifests.cluster['rayVersion']}, not that of constraints.txt"
    if not re.fullmatch(r"quay.io/kuberay/submitter:v1\.7\.\d+", manifests.containers["submitter"]["image"]):
        yield f"the submitter is {manifests.containers['submitter']['image']}, not that of KubeRay 1.7"


def targets() -> list[str]:
    """Final stages of the Dockerfile: those that no other one is made from."""
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.MULTILINE)
    used = {base for base, _ in stages} | set(re.findall(r"from=(\w+)", DOCKERFILE))
    return [name for _, name in stages if name not in used]


def ports(manifests: Manifests) -> Iterator[str]:
    """Ports have the names that Services and monitors look for, and no others: the run's own series are among those of Ray's agents."""
    for name, pod in manifests.ray_pods.items():
        found = {port["name"]: port["containerPort"] for port in pod["spec"]["containers"][0]["ports"]}
        if found != (PORTS if name == "head" else {"metrics": PORTS["metrics"]}):
            yield f"{name}: ports {found}"
    if manifests.job.runtime.metrics_port is not None:
        yield f"runtime.metrics_port is {manifests.job.runtime.metrics_port}, which no monitor looks for"


def disk(manifests: Manifests) -> Iterator[str]:
    """All nodes see the run folder and what the job reads, on the claim that is there, under the same path."""
    places = {name: manifests.volume_of_claim(pod) for name, pod in manifests.ray_pods.items()}
    if len(set(places.values())) != 1 or not all(places.values()):
        yield f"the shared disk is at {places}"
        return
    shared = PurePosixPath(str(places["head"]))
    read = manifests.job.data.train
    for path in (manifests.job.root, *([read] if isinstance(read, str) else [])):
        if shared not in PurePosixPath(path).parents:
            yield f"{path} is not on the shared disk {shared}"


def volumes(manifests: Manifests) -> Iterator[str]:
    """What is mounted is declared, what is declared is mounted, and what is claimed is there."""
    for name, pod in manifests.pods.items():
        declared = {volume["name"]: volume for volume in pod["spec"].get("volumes", [])}
        mounts = list(pod["spec"]["containers"][0].get("volumeMounts", []))
        mounts += manifests.autoscaler.get("volumeMounts", []) if name == "head" else []
        if {mount["name"] for mount in mounts} != set(declared):
            yield f"{name}: mounts {sorted({mount['name'] for mount in mounts})}, and has {sorted(declared)}"
        claims = {volume.get("persistentVolumeClaim", {}).get("claimName") for volume in declared.values()} - {None}
        yield from (f"{name}: no claim {claim}" for claim in claims - manifests.names("PersistentVolumeClaim"))


def endings(manifests: Manifests) -> Iterator[str]:
    """A pod that ends has time for its hook, and training is told when the node will be gone."""
    for name, pod in manifests.ray_pods.items():
        hook = " ".join(manifests.containers[name].get("lifecycle", {}).get("preStop", {}).get("exec", {})["command"])
        longest = max(int(seconds) for seconds in re.findall(r"(?:timeout|--deadline-remaining-seconds) (\d+)", hook))
        if pod["spec"].get("terminationGracePeriodSeconds", 30) <= longest + 10:
            yield f"{name}: ends while its hook of {longest} s still runs"
        if name != "head" and "ray drain-node --reason DRAIN_NODE_REASON_PREEMPTION" not in hook:
            yield f"{name}: gives no notice to Ray"
