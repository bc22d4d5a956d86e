"""The environment of a container: `envFrom`, then `env` with `$(VAR)` expansion, keys of local ConfigMaps and Secrets,
fieldRef and resourceFieldRef.

Pure.  Before: sources/validation has refused what cannot be resolved on a node of its own.  Next: container.py puts
the result into the ContainerConfig and expands command and args with it.  Sources: API fields `Container.env` and
`envFrom`, KEP-4369 (every key of a ConfigMap or Secret is a variable's name), the downward API rules of the kubelet.
Service variables (`KUBERNETES_SERVICE_HOST` …) come from an API server and are absent without one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from lightkube.models import core_v1

from agent.container_spec.facts import SpecError, SpecFacts, allocatable
from agent.container_spec.pod_resources import milli_value, value
from agent.container_spec.resources import ceil_divide
from kube_objects.config_data import CONFIG_MAP, SECRET, ConfigData, ObjectMissing

_REFERENCE = re.compile(r"\$(?:(\$)|\(([^)]*)\))")
_SUBSCRIPT = re.compile(r"^(metadata\.(?:labels|annotations))\['(.*)'\]$", re.DOTALL)


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace `$(NAME)` by its value.

    `$$` means one dollar; a name that is not known, or never closed, stays as written.
    """

    def replacement(match: re.Match[str]) -> str:
        if match.group(1):
            return "$"
        return variables.get(match.group(2), match.group(0))

    return _REFERENCE.sub(replacement, text)


def container_environment(pod: core_v1.Pod, container: core_v1.Container, facts: SpecFacts) -> dict[str, str]:
    """All variables of the container, in the order they are declared; of two with one name the later value counts.

    A value may refer to variables declared before it, to all of `envFrom` and to those of Services, which come last and
    only where the container has none of the name.  What is optional and absent sets nothing.  Raises SpecError for a
    reference that cannot be resolved.
    """
    variables: dict[str, str] = {}
    for source in container.envFrom or []:
        variables.update(_all_of(pod, source, facts))
    for entry in container.env or []:
        text: str | None = entry.value or ""
        if text:
            text = expand(text, {**facts.service_variables, **variables})
        elif entry.valueFrom is not None:
            text = _resolve_source(pod, container, entry.valueFrom, facts)
        if text is not None:
            variables[entry.name] = text
    for name, text in facts.service_variables.items():
        variables.setdefault(name, text)
    return variables


def unset_references(text: str, variables: Mapping[str, str]) -> list[str]:
    """The names that `$(NAME)` in the text refers to and that have no value, or an empty one."""
    names = {match.group(2) for match in _REFERENCE.finditer(text) if not match.group(1)}
    return sorted(name for name in names if not variables.get(name))


def expand_all(texts: Sequence[str] | None, variables: Mapping[str, str]) -> tuple[str, ...]:
    """Expand each element of a command line."""
    return tuple(expand(text, variables) for text in texts or ())


def _resolve_source(
    pod: core_v1.Pod, container: core_v1.Container, source: core_v1.EnvVarSource, facts: SpecFacts
) -> str | None:
    if source.fieldRef is not None:
        return field_value(pod, source.fieldRef.fieldPath, facts)
    if source.resourceFieldRef is not None:
        return resource_field_value(pod, container, source.resourceFieldRef, facts)
    if source.configMapKeyRef is not None:
        return _key_of(pod, CONFIG_MAP, source.configMapKeyRef, facts)
    if source.secretKeyRef is not None:
        return _key_of(pod, SECRET, source.secretKeyRef, facts)
    raise SpecError("this source of a variable needs an API server")


def _key_of(
    pod: core_v1.Pod,
    resource: str,
    reference: core_v1.ConfigMapKeySelector | core_v1.SecretKeySelector,
    facts: SpecFacts,
) -> str | None:
    found = _object(pod, resource, reference.name or "", bool(reference.optional), facts)
    if found is None:
        return None
    if reference.key in found.data:
        return _text(found, reference.key)
    if reference.optional:
        return None
    raise SpecError(f"couldn't find key {reference.key} in {found.kind} {found.namespace}/{found.name}")


def _all_of(pod: core_v1.Pod, source: core_v1.EnvFromSource, facts: SpecFacts) -> dict[str, str]:
    resource, reference = (
        (CONFIG_MAP, source.configMapRef) if source.configMapRef is not None else (SECRET, source.secretRef)
    )
    if reference is None:
        return {}
    found = _object(pod, resource, reference.name or "", bool(reference.optional), facts)
    if found is None:
        return {}
    return {f"{source.prefix or ''}{key}": _text(found, key) for key in sorted(found.data)}


def _object(pod: core_v1.Pod, resource: str, name: str, optional: bool, facts: SpecFacts) -> ConfigData | None:
    """The object, None when it is absent and may be. Raises SpecError when it may not."""
    namespace = (pod.metadata.namespace if pod.metadata else None) or ""
    try:
        return facts.objects.get(resource, namespace, name)
    except ObjectMissing as missing:
        if optional:
            return None
        raise SpecError(str(missing)) from None


def _text(found: ConfigData, key: str) -> str:
    """A value as a variable's; the CRI carries text only."""
    try:
        return found.data[key].decode()
    except UnicodeDecodeError:
        raise SpecError(
            f"cannot use key {key} of {found.kind} {found.namespace}/{found.name} as a variable: it is not UTF-8 text"
        ) from None


def field_value(pod: core_v1.Pod, field_path: str, facts: SpecFacts) -> str:
    """Read one field of the pod for the downward API.  Raises SpecError for a path it does not know."""
    metadata = pod.metadata
    spec = pod.spec
    if metadata is None or spec is None:
        raise SpecError("cannot read a field of a pod without metadata and spec")
    subscript = _SUBSCRIPT.match(field_path)
    if subscript:
        entries = metadata.labels if subscript.group(1) == "metadata.labels" else metadata.annotations
        return str((entries or {}).get(subscript.group(2), ""))
    if field_path.startswith("status.host"):
        return _host_addresses(field_path, facts)
    known = {
        "metadata.name": metadata.name,
        "metadata.namespace": metadata.namespace,
        "metadata.uid": metadata.uid,
        "spec.nodeName": spec.nodeName,
        "spec.serviceAccountName": spec.serviceAccountName,
        "status.podIP": facts.pod_ips[0] if facts.pod_ips else "",
        "status.podIPs": ",".join(facts.pod_ips),
    }
    if field_path not in known:
        raise SpecError(f"unsupported fieldPath: {field_path}")
    return known[field_path] or ""


def _host_addresses(field_path: str, facts: SpecFacts) -> str:
    addresses = facts.node.node_ips
    if not addresses:
        raise SpecError(f"cannot resolve {field_path}: the node has no address yet")
    return ",".join(addresses) if field_path == "status.hostIPs" else addresses[0]


def resource_field_value(
    pod: core_v1.Pod, container: core_v1.Container, reference: core_v1.ResourceFieldSelector, facts: SpecFacts
) -> str:
    """A request or limit divided by the divisor, rounded up.

    A limit that is not set is what the node has for pods (`allocatable`), a request that is not set is 0, as in the
    kubelet.
    """
    target = _named_container(pod, reference.containerName) if reference.containerName else container
    kind, _, name = reference.resource.partition(".")
    if kind not in ("limits", "requests") or not name:
        raise SpecError(f"unsupported container resource : {reference.resource}")
    resources = target.resources or core_v1.ResourceRequirements()
    quantities = (resources.limits if kind == "limits" else resources.requests) or {}
    divisor = str(reference.divisor) if reference.divisor is not None else "1"
    if name == "cpu":
        amount, unit = milli_value(quantities.get("cpu")), milli_value(divisor) or 1000
        if kind == "limits" and amount == 0:
            amount = allocatable(facts.node, "cpu")
    else:
        amount, unit = value(quantities.get(name)), value(divisor) or 1
        if kind == "limits" and amount == 0 and name == "memory":
            amount = allocatable(facts.node, "memory")
    return str(ceil_divide(amount, unit))


def _named_container(pod: core_v1.Pod, name: str) -> core_v1.Container:
    spec = pod.spec
    if spec is not None:
        for candidate in [*spec.containers, *(spec.initContainers or [])]:
            if candidate.name == name:
                return candidate
    raise SpecError(f"container {name} not found")
