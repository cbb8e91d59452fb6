"""Pods that may do nothing but compute, and a network that lets in only what has to come in."""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from consistency import DOCKERFILE, PORTS
from manifests import Document, Manifests

KUBERNETES_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount"
METRICS = {PORTS["metrics"], PORTS["as-metrics"], PORTS["dash-metrics"]}


def restricted(manifests: Manifests) -> Iterator[str]:
    """All that the Pod Security Standard `restricted` asks for, and a read-only root."""
    for name, pod in manifests.pods.items():
        security = pod["spec"].get("securityContext", {})
        if not security.get("runAsNonRoot") or security.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{name}: may be root, or calls the kernel as it likes"
        user = f"{security.get('runAsUser')}:{security.get('runAsGroup')}"
        if f"USER {user}\n" not in DOCKERFILE:
            yield f"{name}: user {user} is not that of the image"
    for name, container in manifests.containers.items():
        security = container.get("securityContext", {})
        wanted = {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        if security != wanted:
            yield f"{name}: securityContext is {security}"


def writable(manifests: Manifests) -> Iterator[str]:
    """Folders that the image's environment names are writable."""
    for name in manifests.ray_pods:
        container, pod = manifests.containers[name], manifests.ray_pods[name]
        scratch = {volume["name"] for volume in pod["spec"]["volumes"] if "emptyDir" in volume}
        mounts = [PurePosixPath(mount["mountPath"]) for mount in container["volumeMounts"] if mount["name"] in scratch]
        for folder in written():
            if not {PurePosixPath(folder), *PurePosixPath(folder).parents} & set(mounts):
                yield f"{name}: nothing writable at {folder}"


def environment() -> dict[str, str]:
    """Variables of the image."""
    (text,) = re.findall(r"^ENV ((?:.*\\\n)*.*)$", DOCKERFILE, re.MULTILINE)
    return dict(pair.split("=", 1) for pair in text.replace("\\\n", " ").split())


def written() -> list[str]:
    """Folders that are written at run time."""
    return ["/tmp", *(value for value in environment().values() if value.startswith("/"))]


def tokens(manifests: Manifests) -> Iterator[str]:
    """Only the autoscaler has a token of Kubernetes, and only the head an account that KubeRay gives rights to."""
    accounts = {name: pod["spec"].get("serviceAccountName") for name, pod in manifests.pods.items()}
    missing = set(accounts.values()) - manifests.names("ServiceAccount")
    yield from (f"{name}: no account {account}" for name, account in accounts.items() if account in missing)
    if accounts["head"] in {account for name, account in accounts.items() if name != "head"}:
        yield "the rights of the autoscaler are those of another pod, too"
    for name, pod in manifests.pods.items():
        if pod["spec"].get("automountServiceAccountToken") is not False:
            yield f"{name}: has a token of Kubernetes"
    secret = {volume["name"] for volume in manifests.ray_pods["head"]["spec"]["volumes"] if "projected" in volume}
    holders = {
        name: mount["mountPath"]
        for name, container in manifests.containers.items()
        for mount in container.get("volumeMounts", [])
        if mount["name"] in secret or mount["mountPath"].startswith("/var/run/secrets")
    }
    if holders != ({"autoscaler": KUBERNETES_TOKEN} if manifests.autoscaler else {}):
        yield f"tokens of Kubernetes are mounted at {holders}"


def network(manifests: Manifests) -> Iterator[str]:
    """Who reaches which ports of a pod: nodes all, Prometheus the metrics, operator and submitter the head's dashboard."""
    nodes = {name: labels_of(manifests, name) for name in manifests.ray_pods}
    prometheus, operator = ({"app.kubernetes.io/name": name} for name in ("prometheus", "kuberay-operator"))
    submitter = {
        **manifests.pods["submitter"]["metadata"]["labels"],
        "ray.io/originated-from-cr-name": manifests.ray_job["metadata"]["name"],
        "ray.io/originated-from-crd": "RayJob",
    }
    for name, labels in nodes.items():
        dashboard = {PORTS["dashboard"]} if name == "head" else set()
        expected: list[tuple[str, dict[str, str], bool, set[int] | None]] = [
            *((other, theirs, True, None) for other, theirs in nodes.items()),
            ("Prometheus", prometheus, False, METRICS),
            ("operator", operator, False, dashboard),
            ("submitter", submitter, True, dashboard),
            ("a stranger here", {"app": "stranger"}, True, set()),
            ("a stranger elsewhere", {"app": "stranger"}, False, set()),
        ]
        for who, theirs, here, wanted in expected:
            if (let_in := open_ports(manifests, labels, theirs, here)) != wanted:
                yield f"{who} reaches {let_in} of {name}, not {wanted} (None: all)"


def labels_of(manifests: Manifests, name: str) -> dict[str, str]:
    """Labels of a pod of Ray, with those that KubeRay adds."""
    own = manifests.ray_pods[name]["metadata"]["labels"]
    return {**own, "ray.io/is-ray-node": "yes", "ray.io/node-type": "head" if name == "head" else "worker"}


def open_ports(manifests: Manifests, to: dict[str, str], of: dict[str, str], here: bool) -> set[int] | None:
    """Ports of a pod with labels `to` that one with labels `of` reaches, from its namespace (`here`) or another one; None: all."""
    policies = [
        policy["spec"] for policy in manifests.all("NetworkPolicy") if _matches(policy["spec"]["podSelector"], to)
    ]
    if not policies:
        return None
    rules = [
        rule for policy in policies for rule in policy["ingress"] if any(_from(peer, of, here) for peer in rule["from"])
    ]
    if any("ports" not in rule for rule in rules):
        return None
    return {port["port"] for rule in rules for port in rule["ports"]}


def _from(peer: Document, labels: dict[str, str], here: bool) -> bool:
    return (here or "namespaceSelector" in peer) and _matches(peer["podSelector"], labels)


def _matches(selector: Document, labels: dict[str, str]) -> bool:
    return bool(selector.get("matchLabels", {}).items() <= labels.items())
