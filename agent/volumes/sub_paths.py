"""The parts of volumes that one container mounts (subPath, subPathExpr): bound before the container is created.

Before: pods/execute; the volumes exist.  Next: container_spec/mounts.py names the places to the runtime, teardown.py
unmounts them.  Effects: the journal of mounts here, everything else in the killable helper (sub_path.py).
"""

from __future__ import annotations

from collections.abc import Mapping

from lightkube.models import core_v1

from agent.container_spec.env import container_environment
from agent.container_spec.facts import SpecError, SpecFacts
from agent.container_spec.labels import uid_of
from agent.container_spec.mounts import sub_path_of
from agent.container_spec.paths import pod_dir, sub_path_target
from agent.volumes.helper import HelperError, run_helper
from agent.volumes.mount_journal import note_mounts
from agent.volumes.pod_files import make_dirs

_BIND_S = 10.0


async def bind_sub_paths(
    pod: core_v1.Pod, container: core_v1.Container, facts: SpecFacts, volume_paths: Mapping[str, str]
) -> None:
    """Have every part of a volume that the container mounts at its place; may be called again.

    Raises SpecError (reason CreateContainerConfigError), with the kubelet's words and the cause.
    """
    if not any(mount.subPath or mount.subPathExpr for mount in container.volumeMounts or []):
        return
    uid = uid_of(pod)
    variables = container_environment(pod, container, facts)
    bound: list[tuple[str, str, str, str]] = []
    for index, mount in enumerate(container.volumeMounts or []):
        part = sub_path_of(mount, variables)
        if part and mount.name in volume_paths:
            target = sub_path_target(facts.root_dir, uid, mount.name, container.name, index)
            bound.append((mount.name, volume_paths[mount.name], part, target))
    if not bound:
        return
    directory = pod_dir(facts.root_dir, uid)
    try:
        make_dirs(directory, facts.root_dir)
        note_mounts(directory, [target for _, _, _, target in bound])
        arguments = [text for _, *texts in bound for text in texts]
        complaints = await run_helper("bind-sub-paths", *arguments, deadline_s=_BIND_S)
    except OSError as error:
        complaints = [f"cannot write the journal of mounts: {error.strerror}"] * len(bound)
    except HelperError as error:
        complaints = [str(error)] * len(bound)
    for (name, *_), complaint in zip(bound, complaints, strict=True):
        if complaint:
            words = f'failed to prepare subPath for volumeMount "{name}" of container "{container.name}"'
            raise SpecError(f"{words}: {complaint}")
