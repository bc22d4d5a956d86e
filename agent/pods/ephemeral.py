"""Ephemeral containers: put into a pod that runs, to look around in it; started once, never again. Pure.

Before: somebody asks the local API (`debugger`). Next: `plan_containers` starts what has never run, `status` tells of
it; nothing else depends on it: neither the pod's phase nor its readiness nor its end. Source: API type
EphemeralContainer; Kubernetes documentation, "Ephemeral Containers".
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from lightkube.models.core_v1 import Container, EphemeralContainer, Pod

from kube_objects.names import is_dns_label

ALLOWED = ("name", "image", "imagePullPolicy", "command", "args", "targetContainerName")
PULL_POLICIES = ("Always", "IfNotPresent", "Never")


class DebugError(ValueError):
    """A request that cannot be granted; `status` is that of HTTP."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def ephemeral_containers(pod: Pod) -> tuple[Container, ...]:
    """Those of the pod, as containers like others."""
    given = (pod.spec.ephemeralContainers if pod.spec else None) or ()
    return tuple(_as_container(one) for one in given)


def target_of(pod: Pod, name: str) -> str:
    """The container whose processes an ephemeral one sees, "" for none (and for a container that is not ephemeral)."""
    given = (pod.spec.ephemeralContainers if pod.spec else None) or ()
    return next((one.targetContainerName or "" for one in given if one.name == name), "")


def parse_ephemeral(data: bytes, pod: Pod) -> EphemeralContainer:
    """What somebody asks to put into this pod. Raises DebugError."""
    try:
        fields = msgspec.json.decode(data, type=dict[str, object])
        asked = msgspec.convert(fields, EphemeralContainer)
    except (ValueError, RecursionError) as error:  # what msgspec raises is one, and so is a UnicodeDecodeError
        raise DebugError(f"cannot read the request: {error}") from None
    _check(fields, asked, pod)
    return asked


def _check(fields: Mapping[str, object], asked: EphemeralContainer, pod: Pod) -> None:
    if unknown := sorted(fields.keys() - set(ALLOWED)):
        raise DebugError(f"{unknown[0]}: not supported yet, only {', '.join(ALLOWED)}")
    if problem := is_dns_label(asked.name):
        raise DebugError(f"name: {problem}")
    if not asked.image or asked.image != asked.image.strip():
        raise DebugError(f"image: {asked.image!r} is not the name of an image")
    if asked.imagePullPolicy and asked.imagePullPolicy not in PULL_POLICIES:
        raise DebugError(f"imagePullPolicy: {asked.imagePullPolicy!r} must be one of {', '.join(PULL_POLICIES)}")
    others = _names(pod)
    if asked.name in others | {one.name for one in ephemeral_containers(pod)}:
        raise DebugError(f"name: the pod has a container {asked.name!r} already", 409)
    if asked.targetContainerName and asked.targetContainerName not in others:
        raise DebugError(f"targetContainerName: the pod has no container {asked.targetContainerName!r}", 404)


def _names(pod: Pod) -> set[str]:
    spec = pod.spec
    return {one.name for one in (*spec.containers, *(spec.initContainers or ()))} if spec else set()


def _as_container(one: EphemeralContainer) -> Container:
    fields = msgspec.structs.asdict(one)
    del fields["targetContainerName"]
    return Container(**fields)
