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

from agent.container_spec.bound_volume import HOST_PATH, LOCAL, BoundVolume, Storage
from agent.container_spec.huge_pages import HUGE_PAGES, huge_page_bytes
from agent.container_spec.labels import uid_of
from agent.container_spec.paths import (
    CONFIG_MAP_PLUGIN,
    DOWNWARD_API_PLUGIN,
    EMPTY_DIR_PLUGIN,
    LOCAL_PLUGIN,
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
class LocalVolume:
    """A directory of the node that a claim is bound to, never removed.

    `place` is a directory of the agent's own, filled when the pod's group, `group_id`, has got the volume: at the first
    use by the pod, or, where `unless_root`, only if the volume's root is not that group's already.
    """

    name: str
    host_path: str
    place: str
    group_id: int | None
    unless_root: bool = False


@dataclass(frozen=True)
class Unbound:
    """A claim for which there is no storage: `problem` says why, "" while nobody knows."""

    name: str
    host_path: str
    problem: str


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
    mount_options: tuple[str, ...] = ()


PlannedVolume: TypeAlias = EmptyDir | HostPath | ObjectVolume | NfsVolume | LocalVolume | Unbound


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
            export = nfs_source(volume.nfs.server, volume.nfs.path)
            planned.append(NfsVolume(volume.name, path, export, bool(volume.nfs.readOnly)))
        elif isinstance(volume, BoundVolume):
            planned.append(_of_claim(volume, pod, root_dir))
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


def _of_claim(volume: BoundVolume, pod: core_v1.Pod, root_dir: str) -> PlannedVolume:
    uid, storage = uid_of(pod), volume.bound
    if not isinstance(storage, Storage):
        return Unbound(volume.name, "", storage or "")
    if storage.kind == HOST_PATH:
        return HostPath(volume.name, storage.path, storage.path_type)
    if storage.kind == LOCAL:
        security = pod.spec.securityContext if pod.spec else None
        group_id = security.fsGroup if security is not None and not storage.read_only else None
        unless_root = security is not None and security.fsGroupChangePolicy == "OnRootMismatch"
        place = volume_path(root_dir, uid, LOCAL_PLUGIN, volume.name)
        return LocalVolume(volume.name, storage.path, place, group_id, unless_root)
    path = volume_path(root_dir, uid, NFS_PLUGIN, volume.name)
    export = nfs_source(storage.server, storage.path)
    return NfsVolume(volume.name, path, export, storage.read_only, storage.mount_options)


def nfs_source(server: str, path: str) -> str:
    """As mount(8) takes it."""
    return f"[{server}]:{path}" if _is_ipv6(server) else f"{server}:{path}"


def _is_ipv6(text: str) -> bool:
    try:
        return IPv6Address(text).version == 6
    except ValueError:
        return False


def nfs_sources(pod: core_v1.Pod) -> tuple[str, ...]:
    """Everything that the pod mounts from servers."""
    return tuple(volume.export for volume in plan_volumes(pod, "/") if isinstance(volume, NfsVolume))


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
