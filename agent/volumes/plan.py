"""Which host paths stand behind the volumes of a pod. Pure.

Before: the pod as admission let it in.  Next: pod_dir.py makes them, container_spec/mounts.py
names them to the runtime.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import TypeAlias

from lightkube.models import core_v1

from agent.container_spec.huge_pages import HUGE_PAGES, huge_page_bytes
from agent.container_spec.paths import (
    CONFIG_MAP_PLUGIN,
    DOWNWARD_API_PLUGIN,
    EMPTY_DIR_PLUGIN,
    NFS_PLUGIN,
    PROJECTED_PLUGIN,
    SECRET_PLUGIN,
    volume_path,
)
from agent.container_spec.pod_resources import declares_limit, pod_limits
from kube_objects.quantity import parse_quantity


@dataclass(frozen=True)
class EmptyDir:
    """A directory of the agent's own, gone with the pod; `limit_bytes` None is no limit.

    `fs_type` is what is mounted there ("tmpfs", "hugetlbfs" with pages of `page_bytes`), "" for the disk.
    """

    name: str
    host_path: str
    fs_type: str
    limit_bytes: int | None
    group_id: int | None
    page_bytes: int | None = None


@dataclass(frozen=True)
class HostPath:
    """Something of the node itself, never removed; `path_type` is the API's, "" checks nothing."""

    name: str
    host_path: str
    path_type: str


@dataclass(frozen=True)
class ObjectVolume:
    """A directory of files made of ConfigMaps, Secrets or the pod, as `source` says. Otherwise as EmptyDir."""

    name: str
    host_path: str
    fs_type: str
    limit_bytes: int | None
    group_id: int | None
    source: core_v1.Volume
    page_bytes: int | None = None


@dataclass(frozen=True)
class NfsVolume:
    """What a server exports, mounted for this pod alone; `export` is SERVER:PATH, an IPv6 address in brackets."""

    name: str
    host_path: str
    export: str
    read_only: bool


PlannedVolume: TypeAlias = EmptyDir | HostPath | ObjectVolume | NfsVolume


def plan_volumes(pod: core_v1.Pod, root_dir: str, *, node_memory_bytes: int | None = None) -> tuple[PlannedVolume, ...]:
    """The volumes of a pod, in its order; kinds this node does not know are left out (validation refuses them).

    A volume in memory is limited by the smallest of its sizeLimit, the pod's memory limit and what the node has for
    pods (`node_memory_bytes`).
    """
    if pod.spec is None or pod.metadata is None:
        return ()
    planned: list[PlannedVolume] = []
    security = pod.spec.securityContext
    group_id = security.fsGroup if security is not None else None
    memory_limits = [_pod_memory_limit_bytes(pod), node_memory_bytes]
    for volume in pod.spec.volumes or ():
        plugin, fs_type = _own_plugin(volume)
        limited = memory_limits if fs_type == "tmpfs" else ()
        path = volume_path(root_dir, pod.metadata.uid or "", plugin, volume.name)
        if volume.emptyDir is not None:
            limit_bytes = _smallest([_bytes(volume.emptyDir.sizeLimit), *limited])
            page_bytes = huge_page_bytes(volume.emptyDir.medium or "", pod.spec)
            planned.append(EmptyDir(volume.name, path, fs_type, limit_bytes, group_id, page_bytes))
        elif plugin:
            planned.append(ObjectVolume(volume.name, path, fs_type, _smallest(limited), group_id, volume))
        elif volume.hostPath is not None:
            planned.append(HostPath(volume.name, volume.hostPath.path, volume.hostPath.type or ""))
        elif volume.nfs is not None:
            path = volume_path(root_dir, pod.metadata.uid or "", NFS_PLUGIN, volume.name)
            planned.append(NfsVolume(volume.name, path, nfs_source(volume.nfs), bool(volume.nfs.readOnly)))
    return tuple(planned)


def _own_plugin(volume: core_v1.Volume) -> tuple[str, str]:
    """Under which name a volume of the agent's own lies, "" for others, and what is mounted there.

    Secrets must not reach a disk; the kubelet keeps what is made of the pod itself in memory, too.
    """
    if volume.emptyDir is not None:
        medium = volume.emptyDir.medium or ""
        return EMPTY_DIR_PLUGIN, "hugetlbfs" if medium.startswith(HUGE_PAGES) else "tmpfs" if medium else ""
    if volume.configMap is not None:
        return CONFIG_MAP_PLUGIN, ""
    if volume.secret is not None:
        return SECRET_PLUGIN, "tmpfs"
    if volume.projected is not None:
        return PROJECTED_PLUGIN, "tmpfs"
    return (DOWNWARD_API_PLUGIN, "tmpfs") if volume.downwardAPI is not None else ("", "")


def nfs_source(source: core_v1.NFSVolumeSource) -> str:
    """As mount(8) takes it."""
    server = f"[{source.server}]" if _is_ipv6(source.server) else source.server
    return f"{server}:{source.path}"


def _is_ipv6(text: str) -> bool:
    try:
        return IPv6Address(text).version == 6
    except ValueError:
        return False


def nfs_sources(pod: core_v1.Pod) -> tuple[str, ...]:
    """Everything that the pod mounts from servers."""
    volumes = (pod.spec.volumes if pod.spec is not None else None) or ()
    return tuple(nfs_source(volume.nfs) for volume in volumes if volume.nfs is not None)


def _smallest(limits: Iterable[int | None]) -> int | None:
    return min((limit for limit in limits if limit), default=None)


def volume_paths(pod: core_v1.Pod, root_dir: str) -> dict[str, str]:
    """Volume name -> host path, as container_spec/mounts.py takes it."""
    return {volume.name: volume.host_path for volume in plan_volumes(pod, root_dir)}


def _bytes(limit: object) -> int | None:
    return (parse_quantity(str(limit)).bytes() or None) if limit is not None else None


def _pod_memory_limit_bytes(pod: core_v1.Pod) -> int | None:
    """That of its cgroup."""
    return _bytes(pod_limits(pod).get("memory")) if declares_limit(pod, "memory") else None
