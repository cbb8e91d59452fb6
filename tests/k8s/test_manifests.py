"""The manifests: every overlay builds, and no part of it contradicts another one, the job file, the image or KubeRay."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import consistency
import operator_rules
import pytest
import resources
import security
import yaml
from manifests import OVERLAYS, ROOT, Manifests, build, quantity

from uldscale.job import load_job

Check = Callable[[Manifests], Iterator[str]]

CHECKS: tuple[Check, ...] = (
    operator_rules.ray_job, operator_rules.ray_cluster, operator_rules.kueue,
    consistency.command, consistency.nodes, consistency.images, consistency.ports, consistency.disk, consistency.volumes,
    consistency.endings,
    resources.sizes, resources.memory, resources.requests, resources.gpus,
    security.restricted, security.writable, security.tokens, security.network,
)  # fmt: skip


@pytest.fixture(scope="module")
def built() -> dict[str, Manifests]:
    """Every overlay."""
    return {name: Manifests(build(ROOT / "k8s/overlays" / name)) for name in OVERLAYS}


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_no_part_contradicts_another(built: dict[str, Manifests], overlay: str, check: Check) -> None:
    assert list(check(built[overlay])) == []


JOB = "RayJob/spec"
CLUSTER = f"{JOB}/rayClusterSpec"
HEAD = f"{CLUSTER}/headGroupSpec"
HEAD_POD = f"{HEAD}/template/spec"
EXTRACT, TRAIN, RELABEL = (f"{CLUSTER}/workerGroupSpecs/{number}" for number in range(3))
TRAIN_POD = f"{TRAIN}/template/spec"
SUBMITTER = f"{JOB}/submitterPodTemplate/spec"
QUOTA = "ClusterQueue/spec/resourceGroups/0/flavors/0/resources"
JOB_FILE = "ConfigMap/data/job.yaml"
GONE = object()
TOKEN_MOUNT = {"name": "kubernetes-token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}


def instead(old: str, new: str) -> Callable[[str], str]:
    """Of a text that has `old`, that with `new` in its place."""

    def replaced(text: str) -> str:
        assert old in text
        return text.replace(old, new)

    return replaced


MUTATIONS: list[tuple[Check, str, str, Any]] = [
    (operator_rules.ray_job, "cpu", "RayJob/metadata/name", "u" * 48),
    (operator_rules.ray_job, "kueue", f"{JOB}/shutdownAfterJobFinishes", False),
    (operator_rules.ray_job, "cpu", f"{JOB}/shutdownAfterJobFinishes", False),
    (operator_rules.ray_job, "cpu", f"{JOB}/deletionStrategy", {"deletionRules": []}),
    (operator_rules.ray_job, "cpu", f"{JOB}/clusterSelector", {"ray.io/cluster": "other"}),
    (operator_rules.ray_job, "cpu", f"{JOB}/submissionMode", "InteractiveMode"),
    (operator_rules.ray_job, "cpu", f"{JOB}/submissionMode", "SidecarMode"),
    (operator_rules.ray_job, "cpu", f"{SUBMITTER}/restartPolicy", "Always"),
    (operator_rules.ray_cluster, "cpu", f"{CLUSTER}/authOptions", GONE),
    (operator_rules.ray_cluster, "cpu", f"{CLUSTER}/rayVersion", "2.51.0"),
    (operator_rules.ray_cluster, "cpu", f"{CLUSTER}/authOptions/enableK8sTokenAuth", True),
    (operator_rules.ray_cluster, "cpu", f"{CLUSTER}/autoscalerOptions/version", "v1"),
    (operator_rules.ray_cluster, "cpu", f"{TRAIN_POD}/restartPolicy", "Always"),
    (operator_rules.ray_cluster, "cpu", f"{TRAIN}/rayStartParams/num-cpus", "2"),
    (operator_rules.ray_cluster, "cpu", f"{TRAIN}/rayStartParams/labels", "a=b"),
    (operator_rules.ray_cluster, "kueue", f"{CLUSTER}/autoscalerOptions", {"version": "v2"}),
    (operator_rules.ray_cluster, "kueue", f"{EXTRACT}/minReplicas", 1),
    (operator_rules.kueue, "kueue", f"{CLUSTER}/enableInTreeAutoscaling", True),
    (operator_rules.kueue, "kueue", f"{JOB}/suspend", False),
    (operator_rules.kueue, "kueue", "LocalQueue/metadata/name", "other"),
    (operator_rules.kueue, "kueue", "LocalQueue/spec/clusterQueue", "other"),
    (operator_rules.kueue, "kueue", "ResourceFlavor/metadata/name", "other"),
    (operator_rules.kueue, "kueue", f"{QUOTA}/2/nominalQuota", 4),
    (operator_rules.kueue, "kueue", f"{EXTRACT}/replicas", 5),
    (consistency.command, "cpu", f"{JOB}/entrypoint", "uldscale run /etc/job.yaml"),
    (consistency.command, "cpu", f"{JOB}/entrypoint", "uldscale extract /etc/uldscale/job.yaml"),
    (consistency.command, "kueue", f"{SUBMITTER}/containers/0/args/1", "uldscale run /etc/uldscale/job.yaml"),
    (consistency.command, "cpu", f"{SUBMITTER}/containers/0/command", ["bash"]),
    (consistency.command, "cpu", "ConfigMap/metadata/name", "uldscale-job"),
    (consistency.nodes, "cpu", f"{TRAIN}/labels", {"uldscale.role": "training"}),
    (consistency.nodes, "kueue", f"{EXTRACT}/labels", {"role": "train"}),
    (consistency.nodes, "gpu", f"{HEAD}/rayStartParams/num-cpus", "1"),
    (consistency.images, "gpu", f"{TRAIN_POD}/containers/0/image", "uldscale:latest"),
    (consistency.images, "cpu", f"{CLUSTER}/rayVersion", "2.59.0"),
    (consistency.images, "cpu", f"{SUBMITTER}/containers/0/image", "quay.io/kuberay/submitter:v1.5.1"),
    (consistency.ports, "cpu", f"{HEAD_POD}/containers/0/ports/4/name", "dashboard-metrics"),
    (consistency.ports, "cpu", f"{TRAIN_POD}/containers/0/ports/0/containerPort", 8081),
    (consistency.ports, "cpu", JOB_FILE, instead("runtime:\n", "runtime:\n  metrics_port: 9090\n")),
    (consistency.disk, "cpu", f"{TRAIN_POD}/containers/0/volumeMounts/2/mountPath", "/mnt/other"),
    (consistency.disk, "cpu", JOB_FILE, instead("/mnt/shared/runs", "/tmp/runs")),
    (consistency.disk, "gpu", JOB_FILE, instead("/mnt/shared/images", "/images")),
    (consistency.volumes, "cpu", f"{TRAIN_POD}/containers/0/volumeMounts/1/name", "other"),
    (consistency.volumes, "cpu", "PersistentVolumeClaim/metadata/name", "other"),
    (consistency.endings, "cpu", f"{TRAIN_POD}/terminationGracePeriodSeconds", 30),
    (consistency.endings, "cpu", f"{TRAIN_POD}/containers/0/lifecycle/preStop/exec/command", ["sleep", "timeout 90"]),
    (resources.sizes, "gpu", f"{EXTRACT}/resources/CPU", "8"),
    (resources.sizes, "gpu", f"{TRAIN}/resources/memory", "24Gi"),
    (resources.sizes, "gpu", f"{RELABEL}/resources/GPU", GONE),
    (resources.sizes, "gpu", f"{EXTRACT}/maxReplicas", 7),
    (resources.memory, "cpu", JOB_FILE, instead("memory_gib: 2,", "memory_gib: 1,")),
    (resources.memory, "gpu", JOB_FILE, instead("memory_gib: 16, node: relabel", "memory_gib: 1, node: relabel")),
    (resources.memory, "cpu", f"{HEAD_POD}/containers/0/resources/requests/memory", "3Gi"),
    (resources.memory, "gpu", f"{HEAD}/rayStartParams/object-store-memory", str(14 * 2**30)),
    (resources.requests, "gpu", f"{TRAIN_POD}/containers/0/resources/requests/cpu", "5500m"),
    (resources.requests, "gpu", f"{TRAIN_POD}/containers/0/resources/requests/memory", "20Gi"),
    (resources.requests, "gpu", f"{TRAIN_POD}/containers/0/resources/limits/nvidia.com~1gpu", "2"),
    (resources.requests, "gpu", f"{TRAIN}/rayStartParams/object-store-memory", "1073741824"),
    (resources.requests, "cpu", f"{HEAD_POD}/containers/0/resources/limits/memory", "8Gi"),
    (resources.gpus, "gpu", f"{TRAIN_POD}/tolerations", GONE),
    (security.restricted, "cpu", f"{SUBMITTER}/securityContext", GONE),
    (security.restricted, "cpu", f"{TRAIN_POD}/securityContext/runAsUser", 1000),
    (security.restricted, "cpu", f"{CLUSTER}/autoscalerOptions/securityContext", GONE),
    (security.restricted, "cpu", f"{TRAIN_POD}/containers/0/securityContext/readOnlyRootFilesystem", False),
    (security.writable, "cpu", f"{TRAIN_POD}/containers/0/volumeMounts/1/mountPath", "/home/ray"),
    (security.tokens, "cpu", f"{TRAIN_POD}/automountServiceAccountToken", GONE),
    (security.tokens, "cpu", f"{TRAIN_POD}/serviceAccountName", "uldscale-head"),
    (security.tokens, "cpu", f"{TRAIN_POD}/serviceAccountName", "default"),
    (security.tokens, "cpu", f"{HEAD_POD}/containers/0/volumeMounts/0", TOKEN_MOUNT),
    (security.tokens, "cpu", f"{CLUSTER}/autoscalerOptions/volumeMounts", []),
    (security.network, "cpu", f"{TRAIN}/template/metadata/labels", {}),
    (security.network, "cpu", "NetworkPolicy/spec/ingress/0/from/0/podSelector", {}),
    (security.network, "cpu", "NetworkPolicy/spec/ingress/1/ports", [{"port": 8080}]),
    (security.network, "cpu", "RayJob/metadata/name", "another"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("check", "overlay", "path", "value"), MUTATIONS, ids=lambda part: getattr(part, "__name__", None)
)
def test_a_contradiction_would_be_seen(
    built: dict[str, Manifests], check: Check, overlay: str, path: str, value: object
) -> None:
    assert list(check(changed(built[overlay], path, value)))


def test_every_check_has_a_contradiction() -> None:
    assert {check for check, *_ in MUTATIONS} == set(CHECKS)


def changed(manifests: Manifests, path: str, value: object) -> Manifests:
    """The manifests with another value at `kind/key/…/key` of the first document of that kind, one made of the old, or none."""
    documents = copy.deepcopy(manifests.documents)
    kind, *parents, last = (part.replace("~1", "/") for part in path.split("/"))
    place: Any = next(document for document in documents if document["kind"] == kind)
    for part in parents:
        place = place[int(part) if isinstance(place, list) else part]
    key: Any = int(last) if isinstance(place, list) else last
    if value is GONE:
        del place[key]
    else:
        place[key] = value(place[key]) if callable(value) else value
    return Manifests(documents)


def test_the_cpu_job_is_the_demo(built: dict[str, Manifests]) -> None:
    assert built["cpu"].job.identity() == load_job(str(ROOT / "uldscale/demo.yaml"), []).identity()


def test_the_queue_runs_the_job_of_the_gpu_overlay(built: dict[str, Manifests]) -> None:
    assert built["kueue"].job.identity() == built["gpu"].job.identity() == built["gpu-spot"].job.identity()


def test_a_changed_job_is_another_config_map(built: dict[str, Manifests]) -> None:
    names = {overlay: manifests.job_volume[0] for overlay, manifests in built.items()}
    assert names["cpu"] != names["gpu"] == names["gpu-spot"] == names["kueue"]


def test_spot_nodes_extract_and_nothing_else(built: dict[str, Manifests]) -> None:
    manifests = built["gpu-spot"]
    kinds = {name: kinds_of_node(pod["spec"]) for name, pod in manifests.ray_pods.items()}
    on_spot = {name for name, operators in kinds.items() if operators == {"In"}}
    assert on_spot == {manifests.roles["extract"].node, manifests.roles["locate"].node}
    assert all(operators == {"NotIn", "DoesNotExist"} for name, operators in kinds.items() if name not in on_spot)


def kinds_of_node(pod: dict[str, Any]) -> set[str]:
    """Operators by which a pod asks for labels of spot nodes."""
    wanted = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    return {expression["operator"] for term in wanted for expression in term["matchExpressions"]}


def test_the_demo_fits_the_node_that_its_overlay_names(built: dict[str, Manifests]) -> None:
    """4 CPUs and 12 GiB, of which kind's own pods and the operator ask for 1.05 and 0.4; the autoscaler ends what is idle."""
    requests = {name: container["resources"]["requests"] for name, container in built["cpu"].containers.items()}
    always = ["head", "autoscaler", "submitter"]
    for phase in (["extract", "extract"], ["train", "relabel"]):
        assert sum(quantity(requests[name]["cpu"]) for name in always + phase) <= 4 - 1.05
        assert sum(quantity(requests[name]["memory"]) for name in always + phase) <= (12 - 0.4) * 2**30


def test_a_bucket_is_reached_from_all_nodes(tmp_path: Path) -> None:
    """The component that an overlay may add."""
    for name in ("base", "components"):
        (tmp_path / name).symlink_to(ROOT / "k8s" / name)
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    (overlay / "kustomization.yaml").write_text(
        yaml.safe_dump({"resources": ["../base"], "components": ["../components/s3"]}), "utf-8"
    )
    manifests = Manifests(build(overlay))
    for name in manifests.ray_pods:
        assert manifests.containers[name]["envFrom"] == [{"secretRef": {"name": "uldscale-s3", "optional": True}}]
