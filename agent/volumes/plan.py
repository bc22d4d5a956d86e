"""Which host paths stand behind the volumes of a pod. Pure.

Before: the pod as admission let it in.  Next: pod_dir.py makes them, container_spec/mounts.py
names them to the runtime.
"""

from __future__ import annotations

from dataclasses import dataclass

from lightkube.models import core_v1

from agent.container_spec.paths import empty_dir_path
from kube_objects.quantity import parse_quantity


@dataclass(frozen=True)
class EmptyDir:
    """A directory of the agent's own, gone with the pod; `limit_bytes` None is no limit."""

    name: str
    host_path: str
    in_memory: bool
    limit_bytes: int | None
    group_id: int | None


@dataclass(frozen=True)
class HostPath:
    """Something of the node itself, never removed; `path_type` is the API's, "" checks nothing."""

    name: str
    host_path: str
    path_type: str


PlannedVolume = EmptyDir | HostPath


def plan_volumes(pod: core_v1.Pod, root_dir: str, *, node_memory_bytes: int | None = None) -> tuple[PlannedVolume, ...]:
    """The volumes of a pod, in its order; kinds this node does not know are left out (validation refuses them).

    An emptyDir in memory is limited by the smallest of its sizeLimit, the pod's memory limit and the node's memory.
    """
    if pod.spec is None or pod.metadata is None:
        return ()
    planned: list[PlannedVolume] = []
    security = pod.spec.securityContext
    group_id = security.fsGroup if security is not None else None
    for volume in pod.spec.volumes or ():
        if volume.emptyDir is not None:
            in_memory = volume.emptyDir.medium == "Memory"
            limits = [_bytes(volume.emptyDir.sizeLimit)]
            if in_memory:
                limits += [_pod_memory_limit_bytes(pod.spec), node_memory_bytes]
            planned.append(
                EmptyDir(
                    name=volume.name,
                    host_path=empty_dir_path(root_dir, pod.metadata.uid or "", volume.name),
                    in_memory=in_memory,
                    limit_bytes=min((limit for limit in limits if limit), default=None),
                    group_id=group_id,
                )
            )
        elif volume.hostPath is not None:
            planned.append(HostPath(volume.name, volume.hostPath.path, volume.hostPath.type or ""))
    return tuple(planned)


def volume_paths(pod: core_v1.Pod, root_dir: str) -> dict[str, str]:
    """Volume name -> host path, as container_spec/mounts.py takes it."""
    return {volume.name: volume.host_path for volume in plan_volumes(pod, root_dir)}


def _bytes(limit: object) -> int | None:
    return (parse_quantity(str(limit)).bytes() or None) if limit is not None else None


def _pod_memory_limit_bytes(spec: core_v1.PodSpec) -> int | None:
    """The sum over the containers when each has a limit, or that of the greediest init container."""
    limits = [_bytes((_limits(container)).get("memory")) for container in spec.containers]
    if not all(limits):
        return None
    starting = [_bytes(_limits(container).get("memory")) or 0 for container in spec.initContainers or ()]
    return max([sum(limit or 0 for limit in limits), *starting])


def _limits(container: core_v1.Container) -> dict[str, object]:
    return dict((container.resources.limits if container.resources is not None else None) or {})
