"""Is a defaulted container one that an API server would have accepted?

Pure.  Called by validation.py for each container and init container.  Each check yields (path, message).  Source: the
constraints written in the API reference of each field.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterator
from typing import TypeAlias

from lightkube.models import core_v1

from agent.container_spec.pod_resources import HUGEPAGES
from agent.sources.validation_resources import RESOURCES, validate_quantity, validate_resize_policy, validate_resources
from agent.sources.validation_security import validate_security
from daemonkit.yaml_text import Path
from kube_objects.names import (
    is_config_key,
    is_dns_label,
    is_dns_subdomain,
    is_env_name,
    is_port_name,
    is_port_number,
    is_qualified_name,
)

Problems: TypeAlias = Iterator[tuple[Path, str]]

PULL_POLICIES = ("Always", "IfNotPresent", "Never")
TERMINATION_POLICIES = ("File", "FallbackToLogsOnError")
PROTOCOLS = ("TCP", "UDP", "SCTP")
PROPAGATIONS = ("None", "HostToContainer", "Bidirectional")
FIELD_PATHS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)

_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['(.*)'\]\Z", re.DOTALL)


def validate_container(
    container: core_v1.Container, where: Path, spec: core_v1.PodSpec, volumes: Collection[str]
) -> Problems:
    """Every problem of one container; `volumes` are the names of the pod's volumes."""
    if problem := is_dns_label(container.name):
        yield (*where, "name"), problem
    yield from _image(container, where)
    yield from _choice(container.imagePullPolicy, PULL_POLICIES, (*where, "imagePullPolicy"))
    yield from _choice(container.terminationMessagePolicy, TERMINATION_POLICIES, (*where, "terminationMessagePolicy"))
    yield from _ports(container, where, bool(spec.hostNetwork))
    yield from _environment(container, where, spec)
    yield from _volume_mounts(container, where, volumes)
    yield from validate_resources(container.resources, (*where, "resources"))
    yield from validate_resize_policy(container, where, spec)
    yield from validate_security(container.securityContext, (*where, "securityContext"), spec)
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = getattr(container, name)
        if probe is not None:
            yield from _probe(probe, (*where, name), container, once=name != "readinessProbe")


def _image(container: core_v1.Container, where: Path) -> Problems:
    image = container.image
    if not image:
        yield (*where, "image"), "required field is missing"
    elif image != image.strip():
        yield (*where, "image"), f"{image!r} must not have leading or trailing whitespace"


def _ports(container: core_v1.Container, where: Path, host_network: bool) -> Problems:
    names: set[str] = set()
    for index, port in enumerate(container.ports or []):
        here: Path = (*where, "ports", index)
        if port.name:
            if problem := is_port_name(port.name):
                yield (*here, "name"), problem
            if port.name in names:
                yield (*here, "name"), f"duplicate port name {port.name!r}"
            names.add(port.name)
        if problem := is_port_number(port.containerPort):
            yield (*here, "containerPort"), problem
        if port.hostPort and (problem := is_port_number(port.hostPort)):
            yield (*here, "hostPort"), problem
        elif host_network and port.hostPort != port.containerPort:
            yield (*here, "hostPort"), f"must equal containerPort {port.containerPort} in a pod with hostNetwork"
        yield from _choice(port.protocol, PROTOCOLS, (*here, "protocol"))
        if port.hostIP:
            try:
                ipaddress.ip_address(port.hostIP)
            except ValueError:
                yield (*here, "hostIP"), f"{port.hostIP!r} is not an IP address"


def _environment(container: core_v1.Container, where: Path, spec: core_v1.PodSpec) -> Problems:
    names = {one.name for one in [*spec.containers, *(spec.initContainers or [])]}
    for index, entry in enumerate(container.env or []):
        here: Path = (*where, "env", index)
        if problem := is_env_name(entry.name):
            yield (*here, "name"), problem
        source = entry.valueFrom
        if source is None:
            continue
        if entry.value:
            yield (*here, "valueFrom"), "may not be set together with value"
        keys = {"configMapKeyRef": source.configMapKeyRef, "secretKeyRef": source.secretKeyRef}
        chosen = [one for one in (source.fieldRef, source.resourceFieldRef, *keys.values()) if one is not None]
        if len(chosen) != 1:
            yield (*here, "valueFrom"), "must have exactly one source"
        if source.fieldRef is not None:
            yield from _field_reference(source.fieldRef, (*here, "valueFrom", "fieldRef"))
        if source.resourceFieldRef is not None:
            yield from resource_reference(source.resourceFieldRef, (*here, "valueFrom", "resourceFieldRef"), names)
        for name, reference in keys.items():
            if reference is not None:
                yield from object_name(reference.name, (*here, "valueFrom", name, "name"))
                if problem := is_config_key(reference.key):
                    yield (*here, "valueFrom", name, "key"), problem
    for index, origin in enumerate(container.envFrom or []):
        yield from _environment_from(origin, (*where, "envFrom", index))


def _environment_from(source: core_v1.EnvFromSource, where: Path) -> Problems:
    if source.prefix and (problem := is_env_name(source.prefix)):
        yield (*where, "prefix"), problem
    references = {"configMapRef": source.configMapRef, "secretRef": source.secretRef}
    if sum(one is not None for one in references.values()) != 1:
        yield where, "must have exactly one of configMapRef and secretRef"
    for name, reference in references.items():
        if reference is not None:
            yield from object_name(reference.name, (*where, name, "name"))


def object_name(name: str | None, where: Path) -> Problems:
    """The name of a ConfigMap or Secret that is referred to."""
    if not name:
        yield where, "required field is missing"
    elif problem := is_dns_subdomain(name):
        yield where, problem


def _field_reference(reference: core_v1.ObjectFieldSelector, where: Path) -> Problems:
    if reference.apiVersion not in (None, "v1"):
        yield (*where, "apiVersion"), f"{reference.apiVersion!r} must be v1"
    here: Path = (*where, "fieldPath")
    subscript = _SUBSCRIPT.match(reference.fieldPath)
    if subscript:
        key = subscript.group(2)
        if problem := is_qualified_name(key.lower() if subscript.group(1) == "annotations" else key):
            yield here, f"key {problem}"
    elif reference.fieldPath not in FIELD_PATHS:
        yield here, f"{reference.fieldPath!r} is not a field that a variable can be read from"


def resource_reference(reference: core_v1.ResourceFieldSelector, where: Path, containers: Collection[str]) -> Problems:
    """A request or limit of a container of the pod."""
    kind, _, name = reference.resource.partition(".")
    if kind not in ("limits", "requests") or not (name in RESOURCES or name.startswith(HUGEPAGES)):
        yield (*where, "resource"), f"{reference.resource!r} must be limits.NAME or requests.NAME of a known resource"
    if reference.containerName and reference.containerName not in containers:
        yield (*where, "containerName"), f"the pod has no container {reference.containerName!r}"
    if reference.divisor is not None:
        yield from validate_quantity(str(reference.divisor), (*where, "divisor"))


def _volume_mounts(container: core_v1.Container, where: Path, volumes: Collection[str]) -> Problems:
    paths: set[str] = set()
    privileged = bool(container.securityContext and container.securityContext.privileged)
    for index, mount in enumerate(container.volumeMounts or []):
        here: Path = (*where, "volumeMounts", index)
        if mount.name not in volumes:
            yield (*here, "name"), f"the pod has no volume {mount.name!r}"
        if not mount.mountPath:
            yield (*here, "mountPath"), "required field is missing"
        elif mount.mountPath in paths:
            yield (*here, "mountPath"), f"duplicate mount path {mount.mountPath!r}"
        paths.add(mount.mountPath)
        if mount.subPath and mount.subPathExpr:
            yield (*here, "subPathExpr"), "may not be set together with subPath"
        for name in ("subPath", "subPathExpr"):
            yield from _part(getattr(mount, name) or "", (*here, name))
        yield from _recursive_read_only(mount, (*here, "recursiveReadOnly"))
        if mount.mountPropagation is not None:
            yield from _choice(mount.mountPropagation, PROPAGATIONS, (*here, "mountPropagation"))
            if mount.mountPropagation == "Bidirectional" and not privileged:
                yield (*here, "mountPropagation"), "Bidirectional is available only to privileged containers"


def _probe(probe: core_v1.Probe, where: Path, container: core_v1.Container, *, once: bool) -> Problems:
    kinds = [name for name in ("exec", "httpGet", "tcpSocket", "grpc") if getattr(probe, name) is not None]
    if not kinds:
        yield where, "must have a handler: exec, httpGet, tcpSocket or grpc"
    elif len(kinds) > 1:
        yield where, f"may not have more than one handler, has {' and '.join(kinds)}"
    for name in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        number = getattr(probe, name)
        if number is not None and number < 0:
            yield (*where, name), "must not be negative"
    if once and probe.successThreshold != 1:
        yield (*where, "successThreshold"), "must be 1 for liveness and startup probes"
    grace_s = probe.terminationGracePeriodSeconds
    if grace_s is not None and grace_s <= 0:
        yield (*where, "terminationGracePeriodSeconds"), "must be greater than 0"
    if probe.exec is not None and not probe.exec.command:
        yield (*where, "exec", "command"), "required field is missing"
    if probe.httpGet is not None:
        yield from http_get_problems(probe.httpGet, (*where, "httpGet"), container)
    if probe.tcpSocket is not None:
        yield from _target_port(probe.tcpSocket.port, (*where, "tcpSocket", "port"), container)
    if probe.grpc is not None and (problem := is_port_number(probe.grpc.port)):
        yield (*where, "grpc", "port"), problem


def http_get_problems(get: core_v1.HTTPGetAction, where: Path, container: core_v1.Container) -> Problems:
    """What is wrong with the request of a probe or hook."""
    yield from _choice(get.scheme, ("HTTP", "HTTPS"), (*where, "scheme"))
    yield from _target_port(get.port, (*where, "port"), container)
    for index, header in enumerate(get.httpHeaders or []):
        if not re.fullmatch(r"[-A-Za-z0-9]+", header.name):
            yield (*where, "httpHeaders", index, "name"), f"{header.name!r} is not an HTTP header name"


def _target_port(port: int | str, where: Path, container: core_v1.Container) -> Problems:
    if isinstance(port, int):
        if problem := is_port_number(port):
            yield where, problem
    elif problem := is_port_name(port):
        yield where, problem
    elif all(one.name != port for one in container.ports or []):
        yield where, f"the container has no port named {port!r}"


def _choice(value: str | None, allowed: tuple[str, ...], where: Path) -> Problems:
    if value not in allowed:
        yield where, f"{value!r} must be one of {', '.join(one for one in allowed if one)}"


def _part(path: str, where: Path) -> Problems:
    """A part of a volume (subPath)."""
    if path.startswith("/"):
        yield where, f"{path!r} must be a relative path"
    elif ".." in path.split("/"):
        yield where, f"{path!r} must not contain '..'"


def _recursive_read_only(mount: core_v1.VolumeMount, where: Path) -> Problems:
    if mount.recursiveReadOnly in (None, "Disabled"):
        return
    yield from _choice(mount.recursiveReadOnly, ("Disabled", "IfPossible", "Enabled"), where)
    if not mount.readOnly:
        yield where, "may only be specified when readOnly is true"
    if mount.mountPropagation not in (None, "None"):
        yield where, "may only be specified when mountPropagation is None or not set"
