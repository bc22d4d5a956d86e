"""The local volumes that a pod's claims are bound to: looked at, and given to the pod's group at its first use.

Before: pod_dir.py.  Next: the containers' mounts.  Effects: a directory of the agent's own with a link that says that
the pod uses the volume; all that touches the volume is left to the killable helper (ownership.py).  As in the kubelet
only the first of several pods has its group get the volume: to those that run already nothing happens.
"""

from __future__ import annotations

import asyncio
import glob
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from weakref import WeakValueDictionary

from agent.container_spec.paths import LOCAL_PLUGIN, volume_path
from agent.volumes.errors import setup_failed
from agent.volumes.helper import HelperError, run_helper
from agent.volumes.ownership import ALWAYS, ON_ROOT_MISMATCH
from agent.volumes.plan import LocalVolume
from agent.volumes.pod_files import make_dirs

LOOK_S = 10.0
GIVE_S = 600.0
_USES = "uses"
_log = logging.getLogger(__name__)
_locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
"""By path: two pods that begin at the same time are no first ones both."""


async def prepare_local(volumes: Sequence[LocalVolume], root_dir: str) -> None:
    """Raises VolumeError, which names the volume and the path."""
    for volume in volumes:
        await _ask(volume, "check-local", volume.host_path, deadline_s=LOOK_S)
        if not _is_used(volume):
            lock = _locks.setdefault(volume.host_path, asyncio.Lock())
            async with lock:
                await _give(volume, root_dir)


def _is_used(volume: LocalVolume) -> bool:
    return os.path.islink(_link(volume))


def _link(volume: LocalVolume) -> str:
    return os.path.join(volume.place, _USES)


def _users(path: str, root_dir: str) -> Iterator[str]:
    for link in glob.iglob(os.path.join(volume_path(glob.escape(root_dir), "*", LOCAL_PLUGIN, "*"), _USES)):
        with suppress(OSError):  # a pod is just being removed
            if os.readlink(link) == path:
                yield link


async def _give(volume: LocalVolume, root_dir: str) -> None:
    if volume.group_id is not None and (other := next(_users(volume.host_path, root_dir), "")):
        words = "%s is not given to group %d: another pod uses it (%s); the volume may not be shareable"
        _log.warning(words, volume.host_path, volume.group_id, os.path.dirname(other))
    elif volume.group_id is not None:
        policy = ON_ROOT_MISMATCH if volume.unless_root else ALWAYS
        await _ask(volume, "give-to-group", volume.host_path, str(volume.group_id), policy, deadline_s=GIVE_S)
    try:
        make_dirs(volume.place, root_dir)
        os.symlink(volume.host_path, _link(volume))
    except OSError as error:
        raise setup_failed(volume.name, f"cannot make {_link(volume)}: {error.strerror}") from error


async def _ask(volume: LocalVolume, operation: str, *arguments: str, deadline_s: float) -> None:
    try:
        (complaint,) = await run_helper(operation, *arguments, deadline_s=deadline_s)
    except HelperError as error:
        complaint = f"cannot use {volume.host_path}: {error}"
    if complaint:
        raise setup_failed(volume.name, complaint)
