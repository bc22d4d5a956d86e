"""What a Service asks for, as typed facts.  Pure.

Before: `proxy.sources.manifest` validated and defaulted the API object.  Next: `proxy.endpoints` finds who answers and
`proxy.resolve` joins both into routes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from proxy.routes import ServiceProblem


@dataclass(frozen=True, slots=True)
class ServicePortFacts:
    """One defaulted service port."""

    name: str
    protocol: str
    port: int
    target_port: int | str
    node_port: int
    """0 = none."""


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """One Service, defaulted and validated, without what a proxy never looks at."""

    namespace: str
    name: str
    cluster_ip: str
    """Canonical IPv4 text; "" when nothing is to be programmed (headless, ExternalName)."""
    ports: tuple[ServicePortFacts, ...]
    selector: tuple[tuple[str, str], ...]
    """Sorted pairs; empty when endpoints come from EndpointSlices."""
    affinity_timeout_s: int | None
    internal_local: bool
    external_local: bool
    publish_not_ready: bool
    source: str
    problems: tuple[ServiceProblem, ...] = ()
    """What this Service asks for and does not get."""

    @property
    def key(self) -> tuple[str, str]:
        """(namespace, name)."""
        return self.namespace, self.name

    @property
    def needs_pods(self) -> bool:
        """True when its endpoints come from the agent's pods."""
        return bool(self.selector) and bool(self.cluster_ip)


@dataclass(frozen=True, slots=True)
class Clashes:
    """Service ports that lose against an earlier service: (service key, port index) -> nothing is programmed for it."""

    lost_vips: frozenset[tuple[tuple[str, str], int]]
    lost_node_ports: frozenset[tuple[tuple[str, str], int]]
    problems: tuple[ServiceProblem, ...]


def find_clashes(services: Iterable[ServiceFacts]) -> Clashes:
    """Find two services that want the same address.  Earlier in the order given wins.

    A clash of `clusterIP:port/protocol` takes the whole port from the later service, one of `nodePort/protocol` only
    its node port.  Source: core/v1 ServiceSpec.clusterIP and .ports[].nodePort, which allocators keep unique elsewhere.
    """
    vip_owner: dict[tuple[str, int, str], tuple[str, str]] = {}
    node_port_owner: dict[tuple[int, str], tuple[str, str]] = {}
    lost_vips: set[tuple[tuple[str, str], int]] = set()
    lost_node_ports: set[tuple[tuple[str, str], int]] = set()
    problems: list[ServiceProblem] = []
    for service in services:
        for index, port in _programmed_ports(service):
            vip = (service.cluster_ip, port.port, port.protocol)
            if (owner := vip_owner.setdefault(vip, service.key)) != service.key:
                lost_vips.add((service.key, index))
                wanted = f"{service.cluster_ip}:{port.port}/{port.protocol}"
                problems.append(_problem(service, f"spec.ports[{index}].port", f"{wanted} belongs to {_text(owner)}"))
                continue
            if not port.node_port:
                continue
            node_key = (port.node_port, port.protocol)
            if (owner := node_port_owner.setdefault(node_key, service.key)) != service.key:
                lost_node_ports.add((service.key, index))
                wanted = f"node port {port.node_port}/{port.protocol}"
                problems.append(
                    _problem(service, f"spec.ports[{index}].nodePort", f"{wanted} belongs to {_text(owner)}")
                )
    return Clashes(frozenset(lost_vips), frozenset(lost_node_ports), tuple(problems))


def _programmed_ports(service: ServiceFacts) -> Iterator[tuple[int, ServicePortFacts]]:
    return enumerate(service.ports) if service.cluster_ip else iter(())


def _text(key: tuple[str, str]) -> str:
    return f"service {key[0]}/{key[1]}"


def _problem(service: ServiceFacts, field: str, message: str) -> ServiceProblem:
    return ServiceProblem(service.namespace, service.name, field, message, service.source)
