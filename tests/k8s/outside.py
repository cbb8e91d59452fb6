"""Series that come from outside of Ray: of NVIDIA's exporter (DCGM), of KubeRay, and of Ray on nodes with a GPU; for tests where none of
them is. `python tests/k8s/outside.py PORT` serves them."""

import sys
import time
from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Gauge, start_http_server

_DCGM = {
    "gpu": "0", "UUID": "GPU-6a0f3b1e", "pci_bus_id": "00000000:00:04.0", "device": "nvidia0", "modelName": "NVIDIA L4",
    "Hostname": "gpu-node-1", "DCGM_FI_DRIVER_VERSION": "580.95.05", "container": "ray-worker", "namespace": "uldscale",
    "pod": "uldscale-x7k2p-extract-worker-8m2fk",
}  # fmt: skip
_RAY_GPU = {
    "ip": "10.0.0.7", "IsHeadNode": "false", "RayNodeType": "worker", "GpuIndex": "0", "GpuDeviceName": "NVIDIA L4",
    "SessionName": "session_2026-11-28_10-00-00_000000_1", "Version": "2.60.0",
}  # fmt: skip
_RAY_JOB = {"name": "uldscale", "namespace": "uldscale", "uid": "6b5b8f0e-1c1d-4f0e-9d4c-0c4e3a4f6f11"}

SERIES: Mapping[str, tuple[Mapping[str, str], float]] = {
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": (_DCGM, 0.31),
    "DCGM_FI_DEV_XID_ERRORS": (_DCGM, 0),
    "ray_node_gpus_utilization": (_RAY_GPU, 87),
    "ray_node_gram_used": (_RAY_GPU, 17_300),
    "ray_node_gram_available": (_RAY_GPU, 5_700),
    "kuberay_job_deployment_status": ({**_RAY_JOB, "deployment_status": "Running"}, 1),
    "kuberay_job_execution_duration_seconds": (
        {**_RAY_JOB, "job_deployment_status": "Complete", "retry_count": "0"}, 5400,
    ),
}  # fmt: skip
"""Name: (labels, value)."""


def registry() -> CollectorRegistry:
    """All of them."""
    found = CollectorRegistry()
    for name, (labels, value) in SERIES.items():
        Gauge(name, "For tests.", tuple(labels), registry=found).labels(**labels).set(value)
    return found


if __name__ == "__main__":
    start_http_server(int(sys.argv[1]), "127.0.0.1", registry=registry())
    while True:
        time.sleep(3600)
