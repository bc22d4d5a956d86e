"""The directory of a pod: made before its first container, with its volumes, which then follow what they are made of.

Before: pods/execute asks for it.  Next: the containers' mounts, and at the end teardown.py.  Effects: directories of
our own are made here, and the files of ConfigMaps and Secrets by projection.py; whatever may hang or belongs to
somebody else is left to the killable helper (helper.py).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

from lightkube.models import core_v1

from agent.container_spec.facts import NodeFacts, SpecFacts, allocatable
from agent.container_spec.labels import uid_of
from agent.container_spec.paths import pod_dir
from agent.volumes.errors import VolumeError, setup_failed
from agent.volumes.helper import HelperError, run_helper
from agent.volumes.local import prepare_local
from agent.volumes.mount_journal import note_mounts, unmounted
from agent.volumes.nfs import mount_exports
from agent.volumes.payload import Payload, PayloadError, volume_payload
from agent.volumes.plan import EmptyDir, HostPath, LocalVolume, NfsVolume, ObjectVolume, Unbound, plan_volumes
from agent.volumes.pod_files import make_dirs
from agent.volumes.projection import is_written, write_payload
from daemonkit.tasks import finish_first
from kube_objects.config_data import ObjectPending

_CHECK_S = 10.0
_NOBODY = SpecFacts(node=NodeFacts(node_name=""))


async def prepare_volumes(pod: core_v1.Pod, root_dir: str, *, facts: SpecFacts = _NOBODY) -> None:
    """Make the pod's directory and volumes; what is there already is left as it is, so it may be called again.

    `facts`: what volumes of objects are made of, and the memory that the node has for pods, which bounds volumes in
    memory (as the pod's limit and an emptyDir's sizeLimit do).  A volume that was filled once and lacks something now
    stays as it is.  Raises VolumeError.  May be cancelled at any time.
    """
    directory = pod_dir(root_dir, uid_of(pod))
    planned = plan_volumes(pod, root_dir, node_memory_bytes=allocatable(facts.node, "memory"))
    _refuse_unbound([volume for volume in planned if isinstance(volume, Unbound)])
    of_objects = [volume for volume in planned if isinstance(volume, ObjectVolume)]
    payloads = [_payload(pod, volume, facts, keep=True) for volume in of_objects]
    try:
        make_dirs(directory, root_dir)
    except OSError as error:
        raise VolumeError("FailedMount", f"cannot make {directory}: {error.strerror}") from error
    await _make_own([volume for volume in planned if isinstance(volume, EmptyDir | ObjectVolume)], directory, root_dir)
    await _check_host_paths([volume for volume in planned if isinstance(volume, HostPath) and volume.path_type])
    await prepare_local([volume for volume in planned if isinstance(volume, LocalVolume)], root_dir)
    for volume, payload in zip(of_objects, payloads, strict=True):
        if payload is not None:
            await _write(volume, payload)
    await mount_exports([volume for volume in planned if isinstance(volume, NfsVolume)], directory, root_dir)


def _refuse_unbound(volumes: Sequence[Unbound]) -> None:
    """Storage that is not there is waited for, in the kubelet's words."""
    if not volumes:
        return
    problem = next((volume.problem for volume in volumes if volume.problem), "")
    names = " ".join(volume.name for volume in volumes)
    if not problem:
        raise ObjectPending(f"what the volumes [{names}] are bound to has not come from the API server yet")
    raise VolumeError(
        "FailedMount",
        f"Unable to attach or mount volumes: unmounted volumes=[{names}], unattached volumes=[], "
        f"failed to process volumes=[{names}]: {problem}",
    )


async def update_volumes(pod: core_v1.Pod, root_dir: str, facts: SpecFacts) -> None:
    """Make the volumes of objects that exist hold what the objects hold now; the others are left to `prepare_volumes`.

    Raises VolumeError for the first one that cannot follow, after all that can have done so.
    """
    failure: VolumeError | None = None
    for volume in plan_volumes(pod, root_dir):
        if isinstance(volume, ObjectVolume) and is_written(volume.host_path):
            try:
                await _write(volume, _payload(pod, volume, facts) or {})
            except VolumeError as error:
                failure = failure or error
    if failure is not None:
        raise failure


def _payload(pod: core_v1.Pod, volume: ObjectVolume, facts: SpecFacts, *, keep: bool = False) -> Payload | None:
    try:
        return volume_payload(pod, volume.source, facts)
    except (PayloadError, ObjectPending) as error:
        if keep and is_written(volume.host_path):
            return None
        if isinstance(error, ObjectPending):
            raise
        raise setup_failed(volume.name, str(error)) from None


async def _write(volume: ObjectVolume, payload: Payload) -> None:
    try:
        await finish_first(asyncio.to_thread(write_payload, volume.host_path, payload, volume.group_id))
    except OSError as error:
        raise setup_failed(volume.name, f"cannot write {volume.host_path}: {error.strerror}") from error


async def _make_own(volumes: Sequence[EmptyDir | ObjectVolume], directory: str, root_dir: str) -> None:
    for volume in volumes:
        try:
            _make_disk_dir(volume, root_dir)
        except OSError as error:
            raise setup_failed(volume.name, f"cannot make {volume.host_path}: {error.strerror}") from error
    mounted = [volume for volume in volumes if volume.fs_type]
    if mounted:
        places = unmounted(directory, [volume.host_path for volume in mounted])
        await _mount_own([volume for volume in mounted if volume.host_path in places], directory)


def _make_disk_dir(volume: EmptyDir | ObjectVolume, root_dir: str) -> None:
    """Rights are set before the directory has its name: one that exists is finished, its rights are the app's."""
    path = volume.host_path
    if os.path.isdir(path):
        return
    make_dirs(os.path.dirname(path), root_dir)
    unfinished = os.path.join(os.path.dirname(path), f".new-{volume.name}")
    os.makedirs(unfinished, exist_ok=True)
    if volume.group_id is not None:
        os.chown(unfinished, -1, volume.group_id)
    os.chmod(unfinished, _mode(volume))
    os.rename(unfinished, path)


def _mode(volume: EmptyDir | ObjectVolume) -> int:
    return 0o777 if volume.group_id is None else 0o2777


async def _mount_own(volumes: Sequence[EmptyDir | ObjectVolume], directory: str) -> None:
    if not volumes:
        return
    arguments = [text for one in volumes for text in (one.fs_type, one.host_path, _options(one))]
    try:
        note_mounts(directory, [volume.host_path for volume in volumes])
        complaints = await run_helper("mount", *arguments, deadline_s=_CHECK_S)
    except OSError as error:
        raise setup_failed(volumes[0].name, f"cannot write the journal of mounts: {error.strerror}") from error
    except HelperError as error:
        complaints = [str(error)] * len(volumes)
    for volume, complaint in zip(volumes, complaints, strict=True):
        if complaint:
            raise setup_failed(volume.name, f"cannot mount {volume.fs_type} on {volume.host_path}: {complaint}")


def _options(volume: EmptyDir | ObjectVolume) -> str:
    options = [f"mode={_mode(volume):o}"]
    if volume.group_id is not None:
        options.append(f"gid={volume.group_id}")
    if volume.limit_bytes is not None and volume.fs_type == "tmpfs":
        options.append(f"size={volume.limit_bytes}")
    if volume.page_bytes is not None:
        options.append(f"pagesize={volume.page_bytes}")
    return ",".join(options)


async def _check_host_paths(volumes: list[HostPath]) -> None:
    if not volumes:
        return
    arguments = [text for volume in volumes for text in (volume.path_type, volume.host_path)]
    try:
        complaints = await run_helper("check-host-paths", *arguments, deadline_s=_CHECK_S)
    except HelperError as error:
        paths = ", ".join(volume.host_path for volume in volumes)
        raise setup_failed(volumes[0].name, f"cannot check {paths}: {error}") from error
    for volume, complaint in zip(volumes, complaints, strict=True):
        if complaint:
            raise setup_failed(volume.name, complaint)
