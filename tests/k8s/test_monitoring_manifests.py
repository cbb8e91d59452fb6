"""k8s/monitoring: it builds, the Prometheus operator takes it, and it looks at the pods that there are."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator, ValidationError
from manifests import OVERLAYS, ROOT, Document, Manifests, build
from queries import DASHBOARDS, MONITORING
from test_schemas import closed, without_metadata

PORTS = {"metrics": 8080, "as-metrics": 44217, "dash-metrics": 44227}


@pytest.fixture(scope="module")
def built() -> Manifests:
    """What kustomize makes of it."""
    return Manifests(build(MONITORING))


def test_each_dashboard_is_a_config_map_of_its_own(built: Manifests) -> None:
    found = {document["metadata"]["name"]: document for document in built.all("ConfigMap")}
    assert set(found) == {f"uldscale-dashboard-{name}" for name in DASHBOARDS}
    for name in DASHBOARDS:
        document = found[f"uldscale-dashboard-{name}"]
        assert document["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert json.loads(document["data"][f"{name}.json"])["uid"] == f"uldscale-{name}"


def test_everything_is_in_the_namespace_of_the_run(built: Manifests) -> None:
    job = yaml.safe_load((ROOT / "k8s/base/rayjob.yaml").read_text("utf-8"))
    assert {document["metadata"]["namespace"] for document in built.documents} == {job["metadata"]["namespace"]}


def pod_monitor(manifests: Manifests) -> Document:
    (found,) = manifests.all("PodMonitor")
    return found


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_pod_monitor_finds_all_nodes_and_ports(built: Manifests, overlay: str) -> None:
    """KubeRay adds labels of its own to the pods, `ray.io/is-ray-node` among them."""
    monitor, run = pod_monitor(built), Manifests(build(ROOT / "k8s/overlays" / overlay))
    wanted = dict(monitor["spec"]["selector"]["matchLabels"])
    assert wanted.pop("ray.io/is-ray-node") == "yes"
    for pod in run.ray_pods.values():
        assert wanted.items() <= pod["metadata"]["labels"].items()
    assert [endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]] == list(PORTS)
    head = {port["name"]: port["containerPort"] for port in run.containers["head"]["ports"]}
    assert head.items() >= PORTS.items()
    for name in run.groups:
        assert {"name": "metrics", "containerPort": PORTS["metrics"]} in run.containers[name]["ports"]


def test_every_series_says_of_which_cluster_it_is(built: Manifests) -> None:
    for endpoint in pod_monitor(built)["spec"]["podMetricsEndpoints"]:
        (relabeling,) = endpoint["relabelings"]
        assert relabeling["sourceLabels"] == ["__meta_kubernetes_pod_label_ray_io_cluster"]
        assert relabeling["targetLabel"] == "ray_io_cluster"


@pytest.fixture(scope="module")
def schemas(shared: Path) -> dict[str, Any]:
    """Schemas of the Prometheus operator by kind, with no room for fields that they do not name."""
    found = {}
    for kind in ("PodMonitor", "PrometheusRule"):
        file = shared / f"k8s-schemas/monitoring.coreos.com_{kind.lower()}s.yaml"
        if not file.is_file():
            pytest.skip(f"no schema of the Prometheus operator: {file} is not there")
        (version,) = yaml.load(file.read_text("utf-8"), Loader=yaml.CSafeLoader)["spec"]["versions"]
        found[kind] = closed(version["schema"]["openAPIV3Schema"])
    return found


@pytest.mark.parametrize("kind", ["PodMonitor", "PrometheusRule"])
def test_the_operator_takes_it(built: Manifests, schemas: dict[str, Any], kind: str) -> None:
    (document,) = built.all(kind)
    assert document["metadata"]["labels"]["release"] == "prometheus"
    Draft202012Validator(schemas[kind]).validate(without_metadata(document))


def test_a_wrong_field_would_be_seen(built: Manifests, schemas: dict[str, Any]) -> None:
    (document,) = copy.deepcopy(built.all("PodMonitor"))
    document["spec"]["podMetricsEndpoints"][0]["ports"] = document["spec"]["podMetricsEndpoints"][0].pop("port")
    with pytest.raises(ValidationError, match="ports"):
        Draft202012Validator(schemas["PodMonitor"]).validate(without_metadata(document))
