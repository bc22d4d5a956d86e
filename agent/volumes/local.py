"""The local volumes that a pod's claims are bound to: looked at, and given to the pod's group at its first use.

Before: pod_dir.py.  Next: the containers' mounts.  Effects: a directory of the agent's own that says that the group has
got the volume; all that touches the volume is left to the killable helper (ownership.py).
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from agent.volumes.errors import setup_failed
from agent.volumes.helper import HelperError, run_helper
from agent.volumes.ownership import ALWAYS, ON_ROOT_MISMATCH
from agent.volumes.plan import LocalVolume
from agent.volumes.pod_files import make_dirs

LOOK_S = 10.0
GIVE_S = 600.0


async def prepare_local(volumes: Sequence[LocalVolume], root_dir: str) -> None:
    """Raises VolumeError, which names the volume and the path."""
    for volume in volumes:
        await _ask(volume, "check-local", volume.host_path, deadline_s=LOOK_S)
        if not _is_given(volume):
            await _give(volume, root_dir)


def _is_given(volume: LocalVolume) -> bool:
    return os.path.isdir(volume.place)


async def _give(volume: LocalVolume, root_dir: str) -> None:
    if volume.group_id is not None:
        policy = ON_ROOT_MISMATCH if volume.unless_root else ALWAYS
        await _ask(volume, "give-to-group", volume.host_path, str(volume.group_id), policy, deadline_s=GIVE_S)
    try:
        make_dirs(volume.place, root_dir)
    except OSError as error:
        raise setup_failed(volume.name, f"cannot make {volume.place}: {error.strerror}") from error


async def _ask(volume: LocalVolume, operation: str, *arguments: str, deadline_s: float) -> None:
    try:
        (complaint,) = await run_helper(operation, *arguments, deadline_s=deadline_s)
    except HelperError as error:
        complaint = f"cannot use {volume.host_path}: {error}"
    if complaint:
        raise setup_failed(volume.name, complaint)
