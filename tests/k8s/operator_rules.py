"""What KubeRay 1.7 (ray-operator/controllers/ray/utils/validation.go) and Kueue refuse, as far as it concerns these manifests."""

from collections.abc import Iterator

from manifests import Manifests, quantity

LONGEST_NAME = 47
OLDEST_RAY_WITH_TOKENS = (2, 52)


def ray_job(manifests: Manifests) -> Iterator[str]:
    """Forbidden pairs in a RayJob."""
    spec, name = manifests.ray_job["spec"], manifests.ray_job["metadata"]["name"]
    if len(name) > LONGEST_NAME:
        yield f"the name {name} has more than {LONGEST_NAME} characters"
    if spec.get("suspend") and not spec.get("shutdownAfterJobFinishes"):
        yield "suspend without shutdownAfterJobFinishes"
    if spec.get("ttlSecondsAfterFinished") and not spec.get("shutdownAfterJobFinishes"):
        yield "ttlSecondsAfterFinished without shutdownAfterJobFinishes"
    if spec.get("shutdownAfterJobFinishes") and "deletionStrategy" in spec:
        yield "deletionStrategy beside shutdownAfterJobFinishes"
    if spec.get("backoffLimit") and ("clusterSelector" in spec or spec.get("submissionMode") == "InteractiveMode"):
        yield "backoffLimit with a clusterSelector or in InteractiveMode"
    if spec.get("submissionMode") == "SidecarMode" and ("submitterPodTemplate" in spec or "submitterConfig" in spec):
        yield "a submitter's template in SidecarMode"
    if spec["submitterPodTemplate"]["spec"].get("restartPolicy") not in ("Never", "OnFailure"):
        yield "a submitter that restarts always, which Kubernetes refuses for a Job"


def ray_cluster(manifests: Manifests) -> Iterator[str]:
    """Forbidden pairs in its RayCluster."""
    cluster, auth = manifests.cluster, manifests.cluster.get("authOptions", {})
    version = tuple(int(part) for part in cluster["rayVersion"].split(".")[:2])
    if auth.get("mode") != "token" or version < OLDEST_RAY_WITH_TOKENS:
        yield f"no token, or a Ray without tokens: {auth}, {cluster['rayVersion']}"
    if auth.get("enableK8sTokenAuth"):
        yield "enableK8sTokenAuth in a RayJob"
    if cluster.get("enableInTreeAutoscaling"):
        yield from _scaling(manifests)
    else:
        yield from _fixed(manifests)
    for name, group in {"head": cluster["headGroupSpec"], **manifests.groups}.items():
        if group.get("resources") and {"num-cpus", "num-gpus", "memory", "resources"} & set(group["rayStartParams"]):
            yield f"{name}: resources beside those of rayStartParams"
        if "labels" in group["rayStartParams"]:
            yield f"{name}: labels in rayStartParams"


def _scaling(manifests: Manifests) -> Iterator[str]:
    if manifests.autoscaler.get("version") != "v2":
        yield f"no autoscaler v2, which knows labels of nodes: {manifests.autoscaler.get('version')}"
    for name, pod in manifests.ray_pods.items():
        if pod["spec"].get("restartPolicy", "Never") != "Never":
            yield f"{name}: autoscaler v2 with a restartPolicy other than Never"


def _fixed(manifests: Manifests) -> Iterator[str]:
    if manifests.autoscaler:
        yield "options of an autoscaler that is off"
    for name, group in manifests.groups.items():
        if not group["minReplicas"] == group["replicas"] == group["maxReplicas"] > 0:
            yield f"{name}: without an autoscaler replicas, minReplicas and maxReplicas must be the same number"


def kueue(manifests: Manifests) -> Iterator[str]:
    """What would keep a queued RayJob waiting for good; nothing for one without a queue."""
    queue = manifests.ray_job["metadata"]["labels"].get("kueue.x-k8s.io/queue-name")
    if not queue:
        return
    if manifests.cluster["enableInTreeAutoscaling"] or not manifests.ray_job["spec"]["suspend"]:
        yield "a queued RayJob must start suspended, and must not scale"
    if queue not in manifests.names("LocalQueue"):
        yield f"the queue {queue} is not there"
    if {local["spec"]["clusterQueue"] for local in manifests.all("LocalQueue")} != manifests.names("ClusterQueue"):
        yield "a LocalQueue of no ClusterQueue"
    yield from _quota(manifests)


def _quota(manifests: Manifests) -> Iterator[str]:
    wanted: dict[str, float] = {}
    for name, pod in manifests.pods.items():
        for resource, text in pod["spec"]["containers"][0]["resources"]["requests"].items():
            pods = manifests.groups[name]["replicas"] if name in manifests.groups else 1
            wanted[resource] = wanted.get(resource, 0) + pods * quantity(text)
    (queue,) = manifests.all("ClusterQueue")
    (resources,) = queue["spec"]["resourceGroups"]
    (flavor,) = resources["flavors"]
    quota = {resource["name"]: quantity(resource["nominalQuota"]) for resource in flavor["resources"]}
    if flavor["name"] not in manifests.names("ResourceFlavor") or set(quota) != set(resources["coveredResources"]):
        yield f"a quota of {flavor['name']} for {sorted(quota)}, not of a flavor that is there for what is covered"
    for resource, much in wanted.items():
        if much > quota.get(resource, 0):
            yield f"the run wants {much:g} {resource}, and the quota is {quota.get(resource, 0):g}"
