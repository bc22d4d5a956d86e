"""What the logs of pods take, and the file systems that images and written layers lie on.  I/O.

Before: `measures` is asked for a summary.  Next: `summary_storage` tells it.  Only a few files for each container are
looked at: the runtime itself has measured the rest.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from agent.container_spec.paths import etc_hosts_path, pod_log_dir
from agent.node.usage import FileSystem
from agent.server.node_api.usage import PodUse
from agent.volumes.file_systems import FileSystems
from cri_client import types as cri
from cri_client.protocols import Images


@dataclass(frozen=True, slots=True)
class Taken:
    """By some files: bytes and inodes."""

    bytes: int = 0
    inodes: int = 0


@dataclass(frozen=True, slots=True)
class StorageUse:
    """`logs` by the uid of the pod and the name of the container, `files` by the uid: logs and hosts file of the pod.

    `layers` are the file systems of written layers by their path; `images` is what the runtime says of its images.
    `time_s` in Unix seconds.
    """

    time_s: float
    images: cri.FilesystemUsage | None = None
    logs: dict[tuple[str, str], Taken] = field(default_factory=dict)
    files: dict[str, Taken] = field(default_factory=dict)
    layers: dict[str, FileSystem] = field(default_factory=dict)


async def read_storage_use(
    images: Images, file_systems: FileSystems, pods: tuple[PodUse, ...], root_dir: str, logs_dir: str
) -> StorageUse:
    """Of these pods.  Raises CriError."""
    said = next(iter((await images.image_fs_info()).image_filesystems), None)
    places = {said.fs_id.mountpoint} if said is not None and said.fs_id is not None else set()
    places |= {one.layer_path for pod in pods for one in pod.containers}
    layers = await file_systems.read(places - {""})
    return await asyncio.to_thread(_read, StorageUse(time.time(), said, layers=layers), pods, root_dir, logs_dir)


def _read(found: StorageUse, pods: Iterable[PodUse], root_dir: str, logs_dir: str) -> StorageUse:
    for pod in pods:
        directory = pod_log_dir(logs_dir, pod.namespace, pod.name, pod.uid)
        found.files[pod.uid] = _sum((*_files_of(directory), *_size_of(etc_hosts_path(root_dir, pod.uid))))
        for one in pod.containers:
            found.logs[pod.uid, one.name] = _sum(_files_of(f"{directory}/{one.name}"))
    return found


def _sum(sizes: Iterable[int]) -> Taken:
    sizes = tuple(sizes)
    return Taken(sum(sizes), len(sizes))


def _files_of(directory: str) -> Iterable[int]:
    sizes: list[int] = []
    with suppress(OSError), os.scandir(directory) as entries:
        for one in entries:
            with suppress(OSError):
                if not one.is_dir(follow_symlinks=False):
                    sizes.append(one.stat(follow_symlinks=False).st_blocks * 512)
    return sizes


def _size_of(path: str) -> Iterable[int]:
    with suppress(OSError):
        yield os.lstat(path).st_blocks * 512
