"""One line of the agent's pod stream -> `PodFacts`.  Pure.

Before: `proxy.sources.agent_pods` received the line.  Next: `proxy.endpoints` matches the pods with selectors.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

import msgspec

from proxy.endpoints import PodFacts
from proxy.sources.api_types import AgentPods, Container, Pod, PodStatus

_DECODER = msgspec.json.Decoder(AgentPods)


def parse_pods(line: bytes) -> tuple[PodFacts, ...]:
    """All pods of one `GET /v1/pods` answer, sorted by namespace and name.  Raises ValueError."""
    listed = (_pod_facts(item.pod) for item in _DECODER.decode(line).pods)
    return tuple(sorted(listed, key=lambda pod: (pod.namespace, pod.name)))


def _pod_facts(pod: Pod) -> PodFacts:
    conditions = pod.status.conditions or ()
    return PodFacts(
        namespace=pod.metadata.namespace,
        name=pod.metadata.name,
        labels=frozenset((pod.metadata.labels or {}).items()),
        ips=_addresses(pod.status),
        serving=any(condition.type == "Ready" and condition.status == "True" for condition in conditions),
        terminating=pod.metadata.deletionTimestamp is not None,
        finished=pod.status.phase in ("Succeeded", "Failed"),
        ports=tuple(_named_ports(pod)),
    )


def _addresses(status: PodStatus) -> tuple[str, ...]:
    """The first address of each family, in the order given."""
    by_family: dict[int, str] = {}
    for text in [entry.ip for entry in status.podIPs or () if entry.ip] or [status.podIP or ""]:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            continue
        by_family.setdefault(address.version, str(address))
    return tuple(by_family.values())


def _named_ports(pod: Pod) -> Iterator[tuple[str, str, int]]:
    """Containers first, then init containers that keep running (KEP-753 sidecars), as a Service looks them up."""
    sidecars = [container for container in pod.spec.initContainers or () if container.restartPolicy == "Always"]
    containers: list[Container] = [*pod.spec.containers, *sidecars]
    for container in containers:
        for port in container.ports or ():
            if port.name:
                yield port.name, port.protocol or "TCP", port.containerPort
