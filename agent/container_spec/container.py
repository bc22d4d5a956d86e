"""Container -> ContainerConfig: the message that makes one attempt of a container.

Pure.  Before: the sandbox runs (its addresses are in the facts), the image is there, agent/volumes has made paths.
Next: agent/pods/execute calls CreateContainer with it.
"""

from __future__ import annotations

from collections.abc import Mapping

from lightkube.models import core_v1

from agent.container_spec import labels
from agent.container_spec.env import container_environment, expand_all
from agent.container_spec.facts import ImageUser, SpecFacts
from agent.container_spec.mounts import container_mounts
from agent.container_spec.paths import container_log_path
from agent.container_spec.resources import container_resources
from agent.container_spec.security import container_security
from cri_client import types as cri

ROOT = ImageUser(uid=0)


def container_config(
    pod: core_v1.Pod,
    container: core_v1.Container,
    attempt: int,
    facts: SpecFacts,
    mounts: Mapping[str, str],
    *,
    image_ref: str = "",
    image_user: ImageUser = ROOT,
    target_id: str = "",
) -> cri.ContainerConfig:
    """One attempt (restart count, from 0) of a container.

    `mounts`: volume name -> path on the host. `image_ref`: what the puller returned, by default the image as written.
    `image_user`: from the image's status (`image_user_of`). `target_id`: the container whose processes it sees. Raises
    SpecError (reason CreateContainerConfigError) for what only shows now.
    """
    variables = container_environment(pod, container, facts)
    return cri.ContainerConfig(
        metadata=cri.ContainerMetadata(name=container.name, attempt=attempt),
        image=cri.ImageSpec(image=image_ref or container.image or "", user_specified_image=container.image or ""),
        command=expand_all(container.command, variables),
        args=expand_all(container.args, variables),
        working_dir=container.workingDir or "",
        envs=tuple(cri.KeyValue(key=name, value=text) for name, text in variables.items()),
        mounts=container_mounts(pod, container, attempt, facts, mounts, variables),
        labels=labels.container_labels(pod, container),
        annotations=labels.container_annotations(pod, container, attempt),
        log_path=container_log_path(container.name, attempt),
        stdin=bool(container.stdin),
        stdin_once=bool(container.stdinOnce),
        tty=bool(container.tty),
        stop_signal=_stop_signal(container),
        linux=cri.LinuxContainerConfig(
            resources=container_resources(pod, container, facts),
            security_context=container_security(pod, container, facts, image_user, target_id),
        ),
    )


def _stop_signal(container: core_v1.Container) -> cri.Signal:
    name = container.lifecycle.stopSignal if container.lifecycle is not None else None
    return cri.Signal[name] if name else cri.Signal.RUNTIME_DEFAULT


def image_user_of(image: cri.Image | None) -> ImageUser:
    """The user an image's status names; an image that names nobody runs as root."""
    if image is None:
        return ROOT
    if image.uid is not None:
        return ImageUser(uid=image.uid.value)
    return ImageUser(username=image.username) if image.username else ROOT
