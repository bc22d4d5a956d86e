"""The parts of /stats/summary that are about storage.  Pure.

Before: `storage_use` and `volume_use` have measured.  Next: `summary` puts them in.  As with the kubelet a part has the
numbers of the whole file system it lies on, but what is used is its own.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Any

from agent.node.usage import FileSystem
from agent.server.node_api.storage_use import StorageUse, Taken
from agent.server.node_api.usage import ContainerUse
from agent.server.node_api.volume_use import VolumeUse
from cri_client.messages.images import FilesystemUsage
from kube_objects.encode import rfc3339

Json = dict[str, Any]


def stamp(time_s: float) -> str:
    """Unix seconds as the API writes them."""
    return rfc3339(datetime.datetime.fromtimestamp(time_s, datetime.UTC))


def set_only(values: Json) -> Json:
    """Without what nobody measured."""
    return {name: value for name, value in values.items() if value is not None}


def part_of(found: FileSystem | None, time_s: float, used_bytes: int | None, inodes_used: int | None) -> Json:
    """What is used by somebody of a file system, which is None where only the runtime can see it."""
    values: Json = {"time": stamp(time_s), "usedBytes": used_bytes, "inodesUsed": inodes_used}
    if found is not None:
        values |= {
            "availableBytes": found.available_bytes,
            "capacityBytes": found.total_bytes,
            "inodesFree": found.inodes_free,
            "inodes": found.inodes,
        }
    return set_only(values)


def file_system(found: FileSystem, time_s: float) -> Json:
    """All of it."""
    return part_of(found, time_s, found.used_bytes, found.inodes - found.inodes_free)


def images(storage: StorageUse) -> Json | None:
    """`imageFs`, as far as the runtime has said it."""
    said: FilesystemUsage | None = storage.images
    if said is None:
        return None
    where = storage.layers.get(said.fs_id.mountpoint) if said.fs_id is not None else None
    used, inodes = said.used_bytes, said.inodes_used
    return part_of(
        where,
        said.timestamp / 1e9 if said.timestamp else storage.time_s,
        used.value if used is not None else None,
        inodes.value if inodes is not None else None,
    )


def container(one: ContainerUse, uid: str, storage: StorageUse, node_fs: FileSystem) -> Json:
    """`rootfs` and `logs` of a container."""
    logs = storage.logs.get((uid, one.name), Taken())
    used = (logs.bytes, logs.inodes) if logs.inodes else (None, None)
    found: Json = {"logs": part_of(node_fs, storage.time_s, *used)}
    if one.layer_bytes is not None:
        where = storage.layers.get(one.layer_path)
        found["rootfs"] = part_of(where, one.layer_time_s or one.amounts.time_s, one.layer_bytes, one.layer_inodes)
    return found


def volume(one: VolumeUse, namespace: str) -> Json:
    """An element of a pod's `volume`."""
    found = part_of(one.found, one.time_s, one.found.used_bytes, one.inodes_used) | {"name": one.name}
    return found | ({"pvcRef": {"name": one.claim, "namespace": namespace}} if one.claim else {})


def ephemeral_storage(
    uid: str, containers: Iterable[ContainerUse], volumes: Iterable[VolumeUse], storage: StorageUse, node_fs: FileSystem
) -> Json:
    """Layers, logs, the pod's own files, and the volumes that lie on the node's disk."""
    taken = [storage.files.get(uid, Taken())]
    for one in containers:
        taken.append(storage.logs.get((uid, one.name), Taken()))
        taken.append(Taken(one.layer_bytes or 0, one.layer_inodes or 0))
    taken += [Taken(each.found.used_bytes, each.inodes_used) for each in volumes if each.local]
    used, inodes = sum(each.bytes for each in taken), sum(each.inodes for each in taken)
    return part_of(node_fs, storage.time_s, used, inodes)
