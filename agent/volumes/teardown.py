"""The end of a pod's directory: our own mounts are undone, then everything goes, but never what others have mounted.

Before: pods/execute, after the pod's last container.  Next: nothing is left.  Effects: umount and removal, in the
killable helper (helper.py) where it may take long.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Sequence

from agent.container_spec.paths import EMPTY_DIR_PLUGIN
from agent.volumes.errors import VolumeError
from agent.volumes.helper import HelperError, HelperTimeoutError, run_helper
from agent.volumes.mount_journal import own_mounts, read_mounts
from agent.volumes.mounts import MountPoint
from agent.volumes.nfs import NFS_TYPES, answers
from agent.volumes.tree import BudgetSpent, remove_tree

_LOG = logging.getLogger(__name__)
_UNMOUNT_S = 10.0
_REMOVE_S = 120.0
_SMALL = 100


async def remove_pod_dir(root_dir: str, uid: str) -> None:
    """Remove the pod's directory; an absent one is fine.

    Our own mounts are undone first.  A foreign mount inside is never entered: everything around it goes, then
    VolumeError names it.
    """
    parent = _pods_dir(root_dir, uid)
    await _remove_whole(os.path.join(parent, uid), parent, uid)


async def remove_volumes(root_dir: str, uid: str) -> None:
    """Remove the volumes of a pod that is over; its last words and logs stay.  Otherwise as `remove_pod_dir`."""
    pod = os.path.join(_pods_dir(root_dir, uid), uid)
    await _remove_whole(pod, pod, "volumes")


async def release_from_silent(root_dir: str, uid: str) -> None:
    """Have what waits for a silent server in a pod that is to go told that it failed, or its processes never die.

    Not where another pod waits for the same: to that one nothing has happened yet. The mounts stay.
    """
    pod = os.path.join(_pods_dir(root_dir, uid), uid)
    try:
        own, others = own_mounts(pod), _devices_elsewhere(pod)
        alone = {mount.device: mount.path for mount in _remote(pod, own) if mount.device not in others}
        if silent := [path for path in alone.values() if not await answers(path)]:
            await run_helper("interrupt", *silent, deadline_s=_UNMOUNT_S)
    except (OSError, HelperError) as error:
        _LOG.warning("cannot have the processes of pod %s end: %s", uid, error)


def _pods_dir(root_dir: str, uid: str) -> str:
    if not uid or "/" in uid or uid in (".", ".."):
        raise VolumeError("FailedCleanup", f"cannot remove the directory of pod {uid!r}: not a UID")
    return os.path.realpath(os.path.join(root_dir, "pods"))


async def _remove_whole(pod: str, parent: str, name: str) -> None:
    """Remove `parent/name`, which is the pod's directory or lies in it."""
    path = os.path.join(parent, name)
    if not _exists(path):
        return
    left = await _unmount_own(pod)
    kept = [(mount.path, f"{mount.fs_type} is mounted there") for mount in left]
    if own_mounts(pod).isdisjoint(mount.path for mount in left):  # else the journal, too, has to stay
        kept += await _remove(parent, name, in_process=not left)
    if kept:
        causes = "; ".join(f"{place}: {cause}" for place, cause in kept[:5])
        more = f" and {len(kept) - 5} more" if len(kept) > 5 else ""
        raise VolumeError("FailedCleanup", f"cannot remove {path}: {causes}{more}")


def _exists(path: str) -> bool:
    return os.path.lexists(path)


async def _unmount_own(pod: str) -> list[MountPoint]:
    """Unmount what the agent has mounted for the pod; what is mounted in its directory all the same."""
    mounted = read_mounts(pod)
    journal = own_mounts(pod)
    own = [mount.path for mount in reversed(mounted) if mount.path in journal or _is_old_tmpfs(pod, mount)]
    if own:
        try:
            await _unmount(pod, own)
        except HelperError as error:  # nobody knows of a server that is silent: nothing is forced, the next try comes
            _LOG.warning("cannot unmount %s: %s", ", ".join(own), error)
        mounted = read_mounts(pod)
    return list(mounted)


async def _unmount(pod: str, own: Sequence[str]) -> None:
    try:
        complaints = await run_helper("unmount", *own, deadline_s=_UNMOUNT_S)
        _LOG.debug("unmounted %s: %s", own, complaints)
    except HelperTimeoutError as error:
        _LOG.warning("cannot unmount %s: %s", ", ".join(own), error)
        await _detach(pod, own)
    await _detach(pod, [mount.path for mount in _remote(pod, own) if not await answers(mount.path)])


async def _detach(pod: str, own: Sequence[str]) -> None:
    """Take away what hangs: its place is free at once, the rest of it goes when the kernel can let it go.

    What waits for the server is told that it failed, unless somebody else has the same file system mounted: to them
    nothing has happened yet. Where others have mounted something inside, it stays.
    """
    there = read_mounts(pod)
    foreign = [mount.path for mount in there if mount.path not in own]
    mounts = [one for one in there if one.path in own and not any(path.startswith(f"{one.path}/") for path in foreign)]
    if not mounts:
        return
    elsewhere = _devices_elsewhere(pod)
    words = [word for one in reversed(mounts) for word in (one.path, "" if one.device in elsewhere else "force")]
    try:
        complaints = await run_helper("detach", *words, deadline_s=_UNMOUNT_S)
        _LOG.warning("detached %s: %s", [mount.path for mount in mounts], complaints)
    except HelperError as error:
        _LOG.warning("cannot detach %s: %s", ", ".join(mount.path for mount in mounts), error)


def _remote(pod: str, own: Collection[str]) -> list[MountPoint]:
    return [mount for mount in read_mounts(pod) if mount.path in own and mount.fs_type in NFS_TYPES]


def _devices_elsewhere(pod: str) -> set[str]:
    """The file systems that are mounted outside of the pod's directory."""
    return {mount.device for mount in read_mounts("/") if not f"{mount.path}/".startswith(f"{pod}/")}


def _is_old_tmpfs(pod: str, mount: MountPoint) -> bool:
    """The emptyDir of an agent that kept no journal yet."""
    home = os.path.join(pod, "volumes", EMPTY_DIR_PLUGIN)
    return os.path.dirname(mount.path) == home and mount.fs_type == "tmpfs"


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
