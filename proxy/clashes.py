"""Two Services that want one address or port: who keeps it.  Pure.

Before: `proxy.sources` delivers `ServiceFacts` in the order in which they win.  Next: `proxy.resolve` leaves out what
is lost.  In a cluster allocators keep cluster IPs and node ports unique; nobody does so for external IPs anywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from proxy.routes import ServiceProblem
from proxy.services import ServiceFacts

NODE_PORT = "node port"
HEALTH_CHECK = "health check node port"

_Key = tuple[str, str]
Lost = frozenset[tuple[int, str]]
"""(port index, address or NODE_PORT); (-1, HEALTH_CHECK)."""
NOTHING_LOST: Lost = frozenset()


@dataclass(frozen=True, slots=True)
class Clashes:
    """What services do not get, because an earlier service has it."""

    lost: Mapping[_Key, Lost]
    problems: tuple[ServiceProblem, ...]
    winners: frozenset[_Key] = frozenset()
    """(namespace, name) of services that have what another one wants too."""

    def lost_by(self, service: ServiceFacts) -> Lost:
        """What this service must do without."""
        return self.lost.get(service.key, NOTHING_LOST) if self.lost else NOTHING_LOST


NO_CLASHES = Clashes({}, ())


@dataclass(slots=True)
class _Claims:
    addresses: dict[tuple[str, int, str], _Key] = field(default_factory=dict)
    """By (address, port, protocol)."""
    node_ports: dict[tuple[int, str], _Key] = field(default_factory=dict)
    lost: dict[_Key, set[tuple[int, str]]] = field(default_factory=dict)
    problems: list[ServiceProblem] = field(default_factory=list)
    winners: set[_Key] = field(default_factory=set)

    def lose(self, service: ServiceFacts, what: tuple[int, str], path: str, wanted: str, owner: _Key) -> None:
        self.lost.setdefault(service.key, set()).add(what)
        self.winners.add(owner)
        message = f"{wanted} belongs to service {owner[0]}/{owner[1]}"
        self.problems.append(ServiceProblem(service.namespace, service.name, path, message, service.source))


def find_clashes(services: Iterable[ServiceFacts], *, deny_external_ips: bool = False) -> Clashes:
    """Find what two services want.  Cluster IPs come before all other addresses; then earlier in the order given wins.

    Without its cluster IP a port is not programmed in that family; without another address or its node port, the rest
    of it is.  So nobody takes over a cluster IP by naming it in externalIPs (CVE-2020-8554).
    """
    claims = _Claims()
    programmed = [service for service in services if service.is_programmed]
    for service in programmed:
        _claim_cluster_ips(claims, service)
    for service in programmed:
        _claim_node_ports(claims, service)
        if service.external_ips and not deny_external_ips:
            _claim_external(claims, service, "spec.externalIPs", service.external_ips)
        if service.load_balancer_ips:
            _claim_external(claims, service, "status.loadBalancer.ingress", service.load_balancer_ips)
    lost = {key: frozenset(what) for key, what in claims.lost.items()}
    return Clashes(lost, tuple(claims.problems), frozenset(claims.winners))


def _claim_cluster_ips(claims: _Claims, service: ServiceFacts) -> None:
    key = service.key
    for index, port in enumerate(service.ports):
        for ip in service.cluster_ips:
            if (owner := claims.addresses.setdefault((ip, port.port, port.protocol), key)) != key:
                wanted = f"{ip}:{port.port}/{port.protocol}"
                claims.lose(service, (index, ip), f"spec.ports[{index}].port", wanted, owner)


def _claim_node_ports(claims: _Claims, service: ServiceFacts) -> None:
    if not (service.health_check_node_port or any(port.node_port for port in service.ports)):
        return
    key = service.key
    lost = claims.lost.get(key, ())
    for index, port in enumerate(service.ports):
        if not port.node_port or all((index, ip) in lost for ip in service.cluster_ips):
            continue
        if (owner := claims.node_ports.setdefault((port.node_port, port.protocol), key)) != key:
            wanted = f"node port {port.node_port}/{port.protocol}"
            claims.lose(service, (index, NODE_PORT), f"spec.ports[{index}].nodePort", wanted, owner)
    if number := service.health_check_node_port:
        own = any((port.node_port, port.protocol) == (number, "TCP") for port in service.ports)
        if (owner := claims.node_ports.setdefault((number, "TCP"), key)) != key or own:
            claims.lose(service, (-1, HEALTH_CHECK), "spec.healthCheckNodePort", f"node port {number}/TCP", owner)


def _claim_external(claims: _Claims, service: ServiceFacts, path: str, addresses: tuple[str, ...]) -> None:
    for index, port in enumerate(service.ports):
        for ip in addresses:
            if (owner := claims.addresses.setdefault((ip, port.port, port.protocol), service.key)) != service.key:
                claims.lose(service, (index, ip), path, f"{ip}:{port.port}/{port.protocol}", owner)
