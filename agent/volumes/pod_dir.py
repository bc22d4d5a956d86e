"""The directory of a pod as one piece: made before its first container, removed after its last.

Before: pods/execute asks for it.  Next: the containers' mounts, and nothing left afterwards.  Effects: directories of
our own are made here; whatever may hang, is big or belongs to somebody else is left to the killable helper (helper.py).
"""

from __future__ import annotations

import logging
import os

from lightkube.models import core_v1

from agent.container_spec.paths import EMPTY_DIR_PLUGIN, pod_dir
from agent.volumes.errors import VolumeError
from agent.volumes.helper import HelperError, run_helper
from agent.volumes.mounts import MountPoint, mounts_below
from agent.volumes.plan import EmptyDir, HostPath, plan_volumes
from agent.volumes.pod_files import make_dirs
from agent.volumes.tree import BudgetSpent, remove_tree

_LOG = logging.getLogger(__name__)
_CHECK_S = 10.0
_REMOVE_S = 120.0
_SMALL = 100


async def prepare_volumes(pod: core_v1.Pod, root_dir: str, *, node_memory_bytes: int | None = None) -> None:
    """Make the pod's directory and volumes; what is there already is left as it is, so it may be called again.

    `node_memory_bytes` bounds emptyDirs in memory (as the pod's memory limit and its sizeLimit do).
    Raises VolumeError.
    """
    uid = (pod.metadata.uid if pod.metadata is not None else None) or ""
    planned = plan_volumes(pod, root_dir, node_memory_bytes=node_memory_bytes)
    try:
        make_dirs(pod_dir(root_dir, uid), root_dir)
    except OSError as error:
        raise VolumeError("FailedMount", f"cannot make {pod_dir(root_dir, uid)}: {error.strerror}") from error
    for volume in planned:
        if isinstance(volume, EmptyDir):
            await _make_empty_dir(volume, root_dir)
    await _check_host_paths([volume for volume in planned if isinstance(volume, HostPath) and volume.path_type])


async def remove_pod_dir(root_dir: str, uid: str) -> None:
    """Remove the pod's directory; an absent one is fine.

    Our own tmpfs are unmounted first.  A foreign mount inside is never entered: everything around it goes, then
    VolumeError names it.
    """
    parent = _pods_dir(root_dir, uid)
    await _remove_whole(os.path.join(parent, uid), parent, uid)


async def remove_volumes(root_dir: str, uid: str) -> None:
    """Remove the volumes of a pod that is over; its last words and logs stay.  Otherwise as `remove_pod_dir`."""
    pod = os.path.join(_pods_dir(root_dir, uid), uid)
    await _remove_whole(pod, pod, "volumes")


def _pods_dir(root_dir: str, uid: str) -> str:
    if not uid or "/" in uid or uid in (".", ".."):
        raise VolumeError("FailedCleanup", f"cannot remove the directory of pod {uid!r}: not a UID")
    return _real_path(os.path.join(root_dir, "pods"))


async def _remove_whole(pod: str, parent: str, name: str) -> None:
    """Remove `parent/name`, which is the pod's directory or lies in it."""
    path = os.path.join(parent, name)
    if not _exists(path):
        return
    foreign = await _unmount_own(pod)
    kept = [(mount.path, f"{mount.fs_type} is mounted there") for mount in foreign]
    kept += await _remove(parent, name, in_process=not foreign)
    if kept:
        causes = "; ".join(f"{place}: {cause}" for place, cause in kept[:5])
        more = f" and {len(kept) - 5} more" if len(kept) > 5 else ""
        raise VolumeError("FailedCleanup", f"cannot remove {path}: {causes}{more}")


async def _make_empty_dir(volume: EmptyDir, root_dir: str) -> None:
    mode = 0o777 if volume.group_id is None else 0o2777
    try:
        _make_disk_dir(volume, root_dir, mode)
    except OSError as error:
        raise _setup_failed(volume.name, f"cannot make {volume.host_path}: {error.strerror}") from error
    if volume.in_memory and not _mounts(_real_path(volume.host_path)):
        await _mount_tmpfs(volume, mode)


def _make_disk_dir(volume: EmptyDir, root_dir: str, mode: int) -> None:
    """Rights are set before the directory has its name: one that exists is finished, its rights are the app's."""
    path = volume.host_path
    if os.path.isdir(path):
        return
    make_dirs(os.path.dirname(path), root_dir)
    unfinished = os.path.join(os.path.dirname(path), f".new-{volume.name}")
    os.makedirs(unfinished, exist_ok=True)
    if volume.group_id is not None:
        os.chown(unfinished, -1, volume.group_id)
    os.chmod(unfinished, mode)
    os.rename(unfinished, path)


async def _mount_tmpfs(volume: EmptyDir, mode: int) -> None:
    options = [f"mode={mode:o}"]
    if volume.group_id is not None:
        options.append(f"gid={volume.group_id}")
    if volume.limit_bytes is not None:
        options.append(f"size={volume.limit_bytes}")
    try:
        complaints = await run_helper("mount-tmpfs", volume.host_path, ",".join(options), deadline_s=_CHECK_S)
    except HelperError as error:
        complaints = [str(error)]
    if any(complaints):
        raise _setup_failed(volume.name, f"cannot mount tmpfs on {volume.host_path}: {'; '.join(complaints)}")


async def _check_host_paths(volumes: list[HostPath]) -> None:
    if not volumes:
        return
    arguments = [text for volume in volumes for text in (volume.path_type, volume.host_path)]
    try:
        complaints = await run_helper("check-host-paths", *arguments, deadline_s=_CHECK_S)
    except HelperError as error:
        paths = ", ".join(volume.host_path for volume in volumes)
        raise _setup_failed(volumes[0].name, f"cannot check {paths}: {error}") from error
    for volume, complaint in zip(volumes, complaints, strict=True):
        if complaint:
            raise _setup_failed(volume.name, complaint)


def _setup_failed(volume: str, cause: str) -> VolumeError:
    return VolumeError("FailedMount", f'MountVolume.SetUp failed for volume "{volume}" : {cause}')


async def _unmount_own(path: str) -> list[MountPoint]:
    """Unmount the pod's own tmpfs; what is mounted below `path` all the same."""
    mounted = _mounts(path)
    home = os.path.join(path, "volumes", EMPTY_DIR_PLUGIN)
    own = [
        mount.path for mount in reversed(mounted) if os.path.dirname(mount.path) == home and mount.fs_type == "tmpfs"
    ]
    if own:
        try:
            complaints = await run_helper("unmount", *own, deadline_s=_CHECK_S)
        except HelperError as error:
            raise VolumeError("FailedCleanup", f"cannot unmount {', '.join(own)}: {error}") from error
        _LOG.debug("unmounted %s: %s", own, complaints)
        mounted = _mounts(path)
    return list(mounted)


async def _remove(parent: str, name: str, in_process: bool) -> list[tuple[str, str]]:
    if in_process:
        try:
            return list(remove_tree(parent, name, _SMALL))
        except BudgetSpent:
            pass
        except OSError as error:
            raise VolumeError("FailedCleanup", f"cannot open {parent}: {error.strerror}") from error
    try:
        answers = await run_helper("remove", parent, name, deadline_s=_REMOVE_S)
    except HelperError as error:
        raise VolumeError("FailedCleanup", f"cannot remove pod directory {parent}/{name}: {error}") from error
    return list(zip(answers[::2], answers[1::2], strict=True))


def _real_path(path: str) -> str:
    return os.path.realpath(path)


def _exists(path: str) -> bool:
    return os.path.lexists(path)


def _mounts(path: str) -> tuple[MountPoint, ...]:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return mounts_below(file.read(), path)
