"""Is a defaulted Pod one that an API server would have accepted?  The pod; containers are in validation_container.py,
volumes in validation_volumes.py.

Pure.  Before: defaults.py.  Next: manifest.py reports the first problem with its line.  Each check yields (path,
message).  Sources: the constraints written in the API reference of each field; pods(5)-like limits of the kernel
where named.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import TypeAlias

from lightkube.models import core_v1, meta_v1

from agent.sources.validation_container import validate_container
from agent.sources.validation_lifecycle import validate_lifecycle, validate_pod_lifecycle
from agent.sources.validation_resources import validate_pod_resources
from agent.sources.validation_security import validate_pod_security
from agent.sources.validation_volumes import validate_volumes
from daemonkit.yaml_text import Path
from kube_objects.names import is_dns_label, is_dns_subdomain, is_label_value, is_qualified_name

Problems: TypeAlias = Iterator[tuple[Path, str]]

RESTART_POLICIES = ("Always", "OnFailure", "Never")
DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
MAX_ANNOTATION_BYTES = 256 * 1024


def validate_pod(pod: core_v1.Pod) -> Problems:
    """Every problem of the pod, in no particular order."""
    yield from validate_metadata(pod.metadata or meta_v1.ObjectMeta())
    spec = pod.spec
    if spec is None:
        yield ("spec",), "required field is missing"
        return
    yield from _containers(spec)
    yield from validate_pod_resources(pod)
    yield from validate_volumes(spec)
    yield from _choice(spec.restartPolicy, RESTART_POLICIES, ("spec", "restartPolicy"))
    yield from _host_names(spec)
    yield from _dns(spec)
    yield from validate_pod_security(spec)
    yield from _placement(spec)
    yield from validate_pod_lifecycle(spec)
    if spec.terminationGracePeriodSeconds is not None and spec.terminationGracePeriodSeconds < 0:
        yield ("spec", "terminationGracePeriodSeconds"), "must not be negative"


def validate_metadata(metadata: meta_v1.ObjectMeta) -> Problems:
    """Every problem of an object's name, namespace, labels and annotations."""
    if not metadata.name:
        yield ("metadata", "name"), "required field is missing"
    elif problem := is_dns_subdomain(metadata.name):
        yield ("metadata", "name"), problem
    if metadata.namespace and (problem := is_dns_label(metadata.namespace)):
        yield ("metadata", "namespace"), problem
    yield from _labels(metadata.labels or {}, ("metadata", "labels"))
    size_bytes = 0
    for key, text in (metadata.annotations or {}).items():
        size_bytes += len(key.encode()) + len(str(text).encode())
        if problem := is_qualified_name(key.lower()):
            yield ("metadata", "annotations", key), problem
    if size_bytes > MAX_ANNOTATION_BYTES:
        yield ("metadata", "annotations"), f"has {size_bytes} bytes, at most {MAX_ANNOTATION_BYTES} are allowed"


def _labels(labels: dict[str, str], where: Path) -> Problems:
    for key, text in labels.items():
        if problem := is_qualified_name(key):
            yield (*where, key), problem
        if problem := is_label_value(text):
            yield (*where, key), problem


def _containers(spec: core_v1.PodSpec) -> Problems:
    if not spec.containers:
        yield ("spec", "containers"), "at least one container is required"
    volumes = {volume.name for volume in spec.volumes or []}
    seen: set[str] = set()
    ports: dict[tuple[str, str, int], Path] = {}
    for kind, containers in (("initContainers", spec.initContainers or []), ("containers", spec.containers)):
        for index, container in enumerate(containers):
            where: Path = ("spec", kind, index)
            if container.name in seen:
                yield (*where, "name"), f"duplicate container name {container.name!r}"
            seen.add(container.name)
            yield from validate_container(container, where, spec, volumes)
            yield from validate_lifecycle(container, where, spec, is_init=kind == "initContainers")
            yield from _host_ports(container, where, ports if kind == "containers" else {})


def _host_ports(container: core_v1.Container, where: Path, taken: dict[tuple[str, str, int], Path]) -> Problems:
    for index, port in enumerate(container.ports or []):
        if port.hostPort:
            key = (port.protocol or "TCP", port.hostIP or "", port.hostPort)
            if key in taken:
                yield (*where, "ports", index, "hostPort"), f"duplicate host port {port.hostPort}/{port.protocol}"
            taken[key] = where


def _host_names(spec: core_v1.PodSpec) -> Problems:
    for name in ("hostname", "subdomain"):
        text = getattr(spec, name)
        if text and (problem := is_dns_label(text)):
            yield ("spec", name), problem
    for index, alias in enumerate(spec.hostAliases or []):
        where: Path = ("spec", "hostAliases", index)
        yield from _address(alias.ip, (*where, "ip"))
        for number, hostname in enumerate(alias.hostnames or []):
            if problem := is_dns_subdomain(hostname):
                yield (*where, "hostnames", number), problem


def _dns(spec: core_v1.PodSpec) -> Problems:
    yield from _choice(spec.dnsPolicy, DNS_POLICIES, ("spec", "dnsPolicy"))
    config = spec.dnsConfig
    servers = (config.nameservers if config else None) or []
    if spec.dnsPolicy == "None" and not servers:
        where: Path = ("spec", "dnsConfig", "nameservers") if config else ("spec", "dnsPolicy")
        yield where, "dnsPolicy None needs at least one nameserver in dnsConfig"
    if config is None:
        return
    here: Path = ("spec", "dnsConfig")
    if len(servers) > 3:
        yield (*here, "nameservers"), f"must have at most 3 nameservers, has {len(servers)}"
    for index, server in enumerate(servers):
        yield from _address(server, (*here, "nameservers", index))
    if len(config.searches or []) > 32:
        yield (*here, "searches"), f"must have at most 32 search domains, has {len(config.searches or [])}"
    for index, domain in enumerate(config.searches or []):
        plain = domain.removesuffix(".").replace("_", "-") if domain != "." else "root"
        if problem := is_dns_subdomain(plain):
            yield (*here, "searches", index), problem
    for index, option in enumerate(config.options or []):
        if not option.name:
            yield (*here, "options", index, "name"), "required field is missing"


def _placement(spec: core_v1.PodSpec) -> Problems:
    yield from _labels(spec.nodeSelector or {}, ("spec", "nodeSelector"))
    if spec.os is not None:
        yield from _choice(spec.os.name, ("linux", "windows"), ("spec", "os", "name"))
    for index, toleration in enumerate(spec.tolerations or []):
        where: Path = ("spec", "tolerations", index)
        if toleration.key and (problem := is_qualified_name(toleration.key)):
            yield (*where, "key"), problem
        if not toleration.key and toleration.operator != "Exists":
            yield (*where, "operator"), "must be 'Exists' when key is empty"
        if toleration.operator == "Exists" and toleration.value:
            yield (*where, "value"), "must be empty when operator is 'Exists'"
        yield from _choice(toleration.operator or "Equal", ("Equal", "Exists", "Lt", "Gt"), (*where, "operator"))
        effects = ("", "NoSchedule", "PreferNoSchedule", "NoExecute")
        yield from _choice(toleration.effect or "", effects, (*where, "effect"))
    if spec.priorityClassName and re.search(r"[^a-z0-9.-]", spec.priorityClassName):
        yield ("spec", "priorityClassName"), f"{spec.priorityClassName!r} is not the name of a priority class"


def _choice(value: str | None, allowed: tuple[str, ...], where: Path) -> Problems:
    if value not in allowed:
        yield where, f"{value!r} must be one of {', '.join(one for one in allowed if one)}"


def _address(text: str, where: Path) -> Problems:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        yield where, f"{text!r} is not an IP address"
