"""The manifests are what the API server takes: Kubernetes' own kinds, KubeRay's and Kueue's."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator, ValidationError
from manifests import OVERLAYS, ROOT, Document, Manifests, build

kubernetes_validate = pytest.importorskip("kubernetes_validate")

VERSIONS = ("1.31", "1.37")
"""The oldest Kubernetes that the README names, and the newest that is known."""

CUSTOM = ("ray.io", "kueue.x-k8s.io")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kinds_of_kubernetes(overlay: str, version: str) -> None:
    ours = [document for document in build(ROOT / "k8s/overlays" / overlay) if not is_custom(document)]
    assert {document["kind"] for document in ours} == {
        "ConfigMap", "Namespace", "NetworkPolicy", "PersistentVolumeClaim", "ServiceAccount",
    }  # fmt: skip
    for document in ours:
        kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_pod_that_carries_files(version: str) -> None:
    pod = yaml.safe_load((ROOT / "k8s/transfer-pod.yaml").read_text("utf-8"))
    kubernetes_validate.validate(pod, version, strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("version", VERSIONS)
def test_pods_of_the_ray_job(overlay: str, version: str) -> None:
    """KubeRay's own schema leaves parts of a pod open."""
    for name, template in Manifests(build(ROOT / "k8s/overlays" / overlay)).pods.items():
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": template["spec"]}
        kubernetes_validate.validate(pod, version, strict=True)


def schema_of(shared: Path, file: str, version: str) -> Document:
    """The schema of a custom resource; a field that it does not know is an error, as it is for kubectl."""
    path = shared / "k8s-schemas" / file
    if not path.is_file():
        pytest.skip(f"no schema: {path} is not there")
    versions = yaml.load(path.read_text("utf-8"), Loader=yaml.CSafeLoader)["spec"]["versions"]
    (schema,) = (each["schema"]["openAPIV3Schema"] for each in versions if each["name"] == version)
    return closed(schema)


@pytest.fixture(scope="module")
def ray_job_schema(shared: Path) -> Document:
    """KubeRay's schema of a RayJob."""
    return schema_of(shared, "ray.io_rayjobs.yaml", "v1")


def closed(schema: Any) -> Any:
    """The schema with no room for fields that it does not name."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    parts = {name: closed(part) for name, part in schema.items()}
    is_open = "additionalProperties" in schema or schema.get("x-kubernetes-preserve-unknown-fields")
    return (
        parts
        if is_open or "properties" not in schema or "type" not in schema
        else {**parts, "additionalProperties": False}
    )


def without_metadata(document: Document) -> Document:
    """The server checks metadata itself; a schema of a custom resource says only that it is an object."""
    return {key: value for key, value in document.items() if key != "metadata"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_ray_jobs(overlay: str, ray_job_schema: Document) -> None:
    ray_job = Manifests(build(ROOT / "k8s/overlays" / overlay)).ray_job
    Draft202012Validator(ray_job_schema).validate(without_metadata(ray_job))


@pytest.mark.parametrize("kind", ["ClusterQueue", "LocalQueue", "ResourceFlavor"])
def test_queues(kind: str, shared: Path) -> None:
    schema = schema_of(shared, f"kueue.x-k8s.io_{kind.lower()}s.yaml", "v1beta2")
    (document,) = Manifests(build(ROOT / "k8s/overlays/kueue")).all(kind)
    Draft202012Validator(schema).validate(without_metadata(document))


def test_a_wrong_field_would_be_seen(ray_job_schema: Document) -> None:
    ray_job = copy.deepcopy(without_metadata(Manifests(build(ROOT / "k8s/overlays/cpu")).ray_job))
    ray_job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["maxReplica"] = 2
    with pytest.raises(ValidationError, match="maxReplica"):
        Draft202012Validator(ray_job_schema).validate(ray_job)


def test_a_wrong_kind_of_value_would_be_seen(ray_job_schema: Document) -> None:
    ray_job = copy.deepcopy(without_metadata(Manifests(build(ROOT / "k8s/overlays/cpu")).ray_job))
    ray_job["spec"]["backoffLimit"] = "3"
    with pytest.raises(ValidationError, match="backoffLimit|integer"):
        Draft202012Validator(ray_job_schema).validate(ray_job)


def is_custom(document: Document) -> bool:
    """Whether a resource is defined by KubeRay or Kueue."""
    return bool(document["apiVersion"].split("/")[0] in CUSTOM)
