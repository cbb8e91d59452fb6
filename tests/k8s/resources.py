"""CPUs, GPUs and memory: what processes need and reserve, what pods offer Ray, and what they ask of Kubernetes."""

from collections.abc import Iterator
from functools import cache

from manifests import GPU, Document, Manifests, quantity

from uldscale.diffusion.backbone import Backbone, BackboneConfig
from uldscale.job import Job
from uldscale.runtime.roles import Role, Team
from uldscale.stages.extract import store_spec
from uldscale.stages.needs import Scale, needs

GIB = 2**30
OF_RAY = 1 * GIB
"""Memory of a worker for Ray's own processes."""
OF_RAYS_HEAD = 2 * GIB
"""The same of the head, which has more of them."""
SAME_SHAPE = {"stable-diffusion-v1-5/stable-diffusion-v1-5": "random-sd15"}
"""Models of a hub, and those of the same size that need no download."""
IMAGES = 100_000
"""In a folder that is on the shared disk only; the README says that the sizes of `gpu` do for so many."""


def sizes(manifests: Manifests) -> Iterator[str]:
    """A pod holds a whole number of processes of its roles, and a group at its largest all of them."""
    for name, role in manifests.roles.items():
        group = manifests.group_of(role)
        if group:
            yield from (f"{name} in {group['groupName']}: {problem}" for problem in _fits(role, group))


def _fits(role: Role, group: Document) -> Iterator[str]:
    offered = {name: quantity(text) for name, text in group["resources"].items()}
    if set(offered) != set(role.resources):
        yield f"a pod offers {sorted(offered)}, a process wants {sorted(role.resources)}"
        return
    processes = {name: offered[name] / wanted for name, wanted in role.resources.items()}
    (number, *others) = sorted(set(processes.values()))
    if others or number < 1 or number % 1:
        yield f"a pod has room for {processes} processes, not for one whole number"
    count = role.count if isinstance(role, Team) else 1
    if group["maxReplicas"] * number < count:
        yield f"{count} processes, and room for {group['maxReplicas'] * number:g}"


def memory(manifests: Manifests) -> Iterator[str]:
    """Processes reserve what they need, and the head has room for the driver."""
    needed = needs_of(manifests.job)
    head = manifests.cluster["headGroupSpec"]
    free = quantity(manifests.containers["head"]["resources"]["requests"]["memory"]) - OF_RAYS_HEAD - object_store(head)
    if free < needed["driver"] * GIB:
        yield f"head: the driver needs {needed['driver']:g} GiB, and finds {free / GIB:g}"
    for name, role in manifests.roles.items():
        if (role.memory_gib or 0) < needed[name]:
            yield f"runtime.{name}.memory_gib is {role.memory_gib}, and a process needs {needed[name]:g}"


def needs_of(job: Job) -> dict[str, float]:
    """GiB of a process of each role and of the driver, as `uldscale plan` prints them."""
    train, test = (count if isinstance(count, int) else IMAGES for count in (job.data.train, job.data.test))
    backbone = outline(job.extract.features.backbone.model)
    spec = store_spec(job.extract, backbone, job.data.size, num_rows=train + test, index="")
    return needs(Scale(job.extract, job.train, job.runtime, spec, train), backbone)


@cache
def outline(model: str) -> Backbone:
    """Shapes of a diffusion model, or of one as large."""
    return Backbone.outline(BackboneConfig(model=SAME_SHAPE.get(model, model)), weights=False)


def object_store(group: Document) -> float:
    """Bytes of a node's memory that Ray keeps for objects."""
    return float(group["rayStartParams"]["object-store-memory"])


def requests(manifests: Manifests) -> Iterator[str]:
    """Pods ask Kubernetes for what they offer Ray, and memory never exceeds what was asked for."""
    for name, group in manifests.groups.items():
        asked = group["template"]["spec"]["containers"][0]["resources"]
        offered = {key: quantity(text) for key, text in group["resources"].items()}
        offered["memory"] += object_store(group) + OF_RAY
        for ours, theirs in {"CPU": "cpu", "memory": "memory", "GPU": GPU}.items():
            if quantity(asked["requests"].get(theirs, 0)) != offered.get(ours, 0):
                yield f"{name}: asks for {asked['requests'].get(theirs, 0)} {theirs}, and needs {offered.get(ours, 0):g}"
    for name, container in manifests.containers.items():
        asked = container["resources"]
        for resource in ("memory", GPU):
            if asked["limits"].get(resource) != asked["requests"].get(resource):
                yield f"{name}: limit and request of {resource} differ"


def gpus(manifests: Manifests) -> Iterator[str]:
    """Pods with a GPU may go where GPUs are, and their image has what a GPU needs."""
    for name, pod in manifests.ray_pods.items():
        container = pod["spec"]["containers"][0]
        tolerated = {toleration["key"] for toleration in pod["spec"].get("tolerations", [])}
        if (GPU in container["resources"]["limits"]) != (GPU in tolerated):
            yield f"{name}: the limit and the toleration of {GPU} belong together"
    on_gpu = any(GPU in container["resources"]["limits"] for container in manifests.containers.values())
    if on_gpu == manifests.containers["head"]["image"].endswith("-cpu"):
        yield f"the image is {manifests.containers['head']['image']}"
