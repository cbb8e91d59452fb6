"""GPUs and nodes: what the machines do, as Ray, NVIDIA's exporter (DCGM) and KubeRay see it."""

from frame import Row, framed
from grafana_foundation_sdk.builders.dashboard import Dashboard
from panels import Query, lines, of_cluster, periods

NEARLY_FULL = ((None, "transparent"), (0.9, "red"))


def nodes() -> Dashboard:
    """The dashboard."""
    about = "What the machines do. Ray's series are of the chosen clusters, DCGM's of all GPUs that it sees."
    return framed("uldscale-nodes", "GPUs and nodes", about, cluster(), gpus(), machines(), stores())


def cluster() -> Row:
    """What there is."""
    of_a_type = f"count by (RayNodeType) (group by (RayNodeType, ip) ({of_cluster('node_cpu_count')}))"
    resources = of_cluster("resources", 'Name=~"CPU|GPU"')
    return Row(7, [
        lines("Nodes", "Nodes of Ray by type.", "none", Query(of_a_type, "{{RayNodeType}}"), stacked=True),
        lines("CPUs and GPUs", "Reserved by processes, or free: what is free for long is paid for nothing.", "none",
              Query(f"sum by (Name, State) ({resources})", "{{Name}} {{State}}")),
        periods("RayJobs", "What KubeRay says of them, and when. Retrying is a new cluster with the same command.",
                Query('max by (name, deployment_status) (kuberay_job_deployment_status{name=~"uldscale.*"})',
                      "{{name}}: {{deployment_status}}"),
                limits=((None, "green"),)),
    ])  # fmt: skip


def gpus() -> Row:
    """GPUs as Ray sees them on its nodes, and what only NVIDIA's exporter knows."""
    used, free = (f"max by (ip, GpuIndex) ({of_cluster(f'node_gram_{part}')})" for part in ("used", "available"))
    at_work = f"max by (ip, GpuIndex) ({of_cluster('node_gpus_utilization')}) / 100"
    tensor, broken = (
        f"max by (Hostname, gpu) (DCGM_FI_{name})" for name in ("PROF_PIPE_TENSOR_ACTIVE", "DEV_XID_ERRORS")
    )
    return Row(7, [
        lines("GPUs at work", "Share of time with any kernel at all: near 1 says little, near 0 says much.",
              "percentunit", Query(at_work, "{{ip}} {{GpuIndex}}")),
        lines("GPU memory", "Share that is in use. Extraction halves its batch where it is not enough.", "percentunit",
              Query(f"{used} / ({used} + {free})", "{{ip}} {{GpuIndex}}"), limits=NEARLY_FULL),
        lines("Tensor cores at work", "Share of cycles: how well a GPU is used.", "percentunit",
              Query(tensor, "{{Hostname}} {{gpu}}")),
        lines("GPU errors", "Number of the last XID, 0 without any: 48, 79, 94, 95 say that a GPU is broken.", "none",
              Query(broken, "{{Hostname}} {{gpu}}")),
    ])  # fmt: skip


def machines() -> Row:
    """CPUs and memory."""
    memory = f"max by (ip) ({of_cluster('node_mem_used')}) / max by (ip) ({of_cluster('node_mem_total')})"
    return Row(7, [
        lines("CPUs", "Share of a node's CPU time.", "percentunit",
              Query(f"max by (ip) ({of_cluster('node_cpu_utilization')}) / 100", "{{ip}}")),
        lines("Memory", "Share of a node's, or its pod's. From 95 % on Ray ends processes.", "percentunit",
              Query(memory, "{{ip}}"), limits=((None, "transparent"), (0.95, "red"))),
        lines("Network", "Bytes that come in and go out, a second.", "Bps",
              Query(f"max by (ip) ({of_cluster('node_network_receive_speed')})", "{{ip}} in"),
              Query(f"max by (ip) ({of_cluster('node_network_send_speed')})", "{{ip}} out")),
    ])  # fmt: skip


def stores() -> Row:
    """The object store and disks."""
    used, free = (
        f"max by (NodeAddress) ({of_cluster(f'object_store_{part}_memory')})" for part in ("used", "available")
    )
    spilled = of_cluster("object_store_memory", 'Location="SPILLED"')
    return Row(7, [
        lines("Object store", "Share of a node's shared memory for objects that is in use.", "percentunit",
              Query(f"{used} / ({used} + {free})", "{{NodeAddress}}"), limits=NEARLY_FULL),
        lines("Spilled objects", "On disk, since the object store was full: all that is read from there is slow.",
              "bytes", Query(f"sum by (NodeAddress) ({spilled})", "{{NodeAddress}}")),
        lines("Local disks", "Share of a node's disk that is in use; Ray's logs and spilled objects are there.",
              "percentunit", Query(f"max by (ip) ({of_cluster('node_disk_utilization_percentage')}) / 100", "{{ip}}"),
              limits=NEARLY_FULL),
    ])  # fmt: skip
