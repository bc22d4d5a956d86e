"""The nfs volumes of a pod: mounted in its directory, and asked before each start of a container whether they answer.

Before: pod_dir.py.  Next: the containers' mounts, and at the end teardown.py.  Effects: directories of the agent's own
and the journal of mounts here; everything that waits for a server in the killable helper (nfs_mount.py).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress

from agent.volumes.errors import setup_failed
from agent.volumes.helper import HelperError, HelperTimeoutError, run_helper
from agent.volumes.mount_journal import note_mounts, unmounted
from agent.volumes.plan import NfsVolume
from agent.volumes.pod_files import make_dirs

NFS_TYPES = ("nfs", "nfs4")
MOUNT_S = 150.0  # mount.nfs gives up after two minutes, and says why
LOOK_S = 10.0


async def mount_exports(volumes: Sequence[NfsVolume], directory: str, root_dir: str) -> None:
    """Have each mounted, and hear from the server of each that was already. Raises VolumeError, which names both.

    A runtime that looks at the volume of a silent server would hang; so no container is made meanwhile.
    """
    if not volumes:
        return
    places = unmounted(directory, [volume.host_path for volume in volumes])
    absent = [volume for volume in volumes if volume.host_path in places]
    for volume in absent:
        try:
            _make_place(volume.host_path, root_dir)
        except OSError as error:
            raise setup_failed(volume.name, f"cannot make {volume.host_path}: {error.strerror}") from error
    try:
        note_mounts(directory, [volume.host_path for volume in absent])
    except OSError as error:
        raise setup_failed(absent[0].name, f"cannot write the journal of mounts: {error.strerror}") from error
    complaints = await asyncio.gather(*(_mount(one) if one in absent else _hear_from(one) for one in volumes))
    for volume, complaint in zip(volumes, complaints, strict=True):
        if complaint:
            raise setup_failed(volume.name, complaint)


async def answers(path: str) -> bool:
    """Whether the file system that is mounted there says anything at all. Raises HelperError when that is not known."""
    try:
        return await _answers(path)
    except HelperError:  # the helper's own end, somebody may have killed it
        return await _answers(path)


async def _answers(path: str) -> bool:
    try:
        await run_helper("look-at", path, deadline_s=LOOK_S)
    except HelperTimeoutError:
        return False
    return True


def _make_place(path: str, root_dir: str) -> None:
    make_dirs(os.path.dirname(path), root_dir)
    with suppress(FileExistsError):
        os.mkdir(path, 0o750)


async def _mount(volume: NfsVolume) -> str:
    options = ",".join([*(["ro"] if volume.read_only else []), *volume.mount_options])
    try:
        (complaint,) = await run_helper("mount-nfs", volume.export, volume.host_path, options, deadline_s=MOUNT_S)
    except HelperError as error:
        return f"cannot mount {volume.export}: {error}"
    return complaint


async def _hear_from(volume: NfsVolume) -> str:
    try:
        silent = not await answers(volume.host_path)
    except HelperError as error:
        return f"cannot use {volume.export}: {error}"
    return f"cannot use {volume.export}: the server does not answer within {LOOK_S:g} s" if silent else ""
