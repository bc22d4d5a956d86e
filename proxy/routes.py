"""Routes: the backend-neutral answer to "where does traffic for this service port go?".  Pure, no I/O.

Before: `proxy.resolve` makes these values out of Service facts and endpoint facts.
Next: a backend (`proxy.iptables`) renders them.  A backend sees nothing but a `RoutingTable`: traffic policies,
terminating endpoints and topology were resolved once, before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

Verdict = Literal["ACCEPT", "REJECT", "DROP"]


class PortName(NamedTuple):
    """The name of one service port; `port` is "" for a service with a single unnamed port.

    A tuple, because its hash and order are asked for ten thousand times a sync.
    """

    namespace: str
    service: str
    port: str
    protocol: str
    """"TCP", "UDP" or "SCTP"."""

    def __str__(self) -> str:
        suffix = f":{self.port}" if self.port else ""
        return f"{self.namespace}/{self.service}{suffix}"


@dataclass(frozen=True, order=True, slots=True)
class Endpoint:
    """A usable target: readiness and termination were judged already."""

    ip: str
    port: int
    local: bool
    """True when the endpoint runs on this node."""


@dataclass(frozen=True, slots=True)
class ServiceRoute:
    """Everything a backend needs to carry one service port of one IP family.

    All addresses in it are of that family.  A dual-stack service port has two routes of one name.
    """

    name: PortName
    family: int
    """4 or 6."""
    cluster_ip: str
    port: int
    node_port: int
    """0 when the port is not exposed on the node's addresses."""
    affinity_timeout_s: int | None
    """Seconds of ClientIP session affinity; None spreads every connection."""
    endpoints: tuple[Endpoint, ...]
    """Cluster policy: ready ones that topology prefers, or serving terminating ones when none is ready; sorted."""
    local_endpoints: tuple[Endpoint, ...]
    """Local policy: the same choice made among this node's endpoints only, without topology; sorted."""
    internal_local: bool
    """internalTrafficPolicy: Local."""
    external_local: bool
    """externalTrafficPolicy: Local."""
    draining: tuple[Endpoint, ...] = ()
    """UDP and SCTP: further endpoints that still serve.  No new flow goes there; those that do already may stay."""
    external_ips: tuple[str, ...] = ()
    """spec.externalIPs that are not denied and that no other service owns; sorted."""
    load_balancer_ips: tuple[str, ...] = ()
    """status.loadBalancer.ingress of ipMode VIP (those of mode Proxy are reached through the balancer); sorted."""
    allowed_sources: tuple[str, ...] = ()
    """CIDRs that may connect to `load_balancer_ips`, all others are dropped; () lets everybody in; sorted.

    Only to those: node port, external IPs and cluster IP are not subject to loadBalancerSourceRanges.  The load
    balancer's own addresses are among them where this node is in a range, since the node's own packets may carry them.
    """
    health_check_node_port: int = 0
    """TCP port on the node's addresses that must stay reachable; who answers there is in `RoutingTable`."""
    app_protocol: str = ""

    @property
    def external_addresses(self) -> tuple[str, ...]:
        """Every address but the cluster IP at which `port` is served."""
        return (*self.external_ips, *self.load_balancer_ips)

    @property
    def is_external(self) -> bool:
        """Clients outside the cluster have a way to it."""
        return bool(self.node_port or self.external_ips or self.load_balancer_ips)

    @property
    def internal_endpoints(self) -> tuple[Endpoint, ...]:
        """Targets of connections to the cluster IP."""
        return self.local_endpoints if self.internal_local else self.endpoints

    @property
    def external_endpoints(self) -> tuple[Endpoint, ...]:
        """Targets of connections from outside to node port, external IPs and load balancer IPs.

        Pods of this node and the node itself reach these addresses as under policy Cluster: they go to `endpoints`.
        """
        return self.local_endpoints if self.external_local else self.endpoints

    @property
    def internal_verdict(self) -> Verdict:
        """What becomes of connections to the cluster IP."""
        return _verdict(self.endpoints, self.internal_endpoints)

    @property
    def external_verdict(self) -> Verdict:
        """What becomes of connections from outside; DROP lets a balancer's health check move the client elsewhere."""
        return _verdict(self.endpoints, self.external_endpoints)


def _verdict(anywhere: tuple[Endpoint, ...], chosen: tuple[Endpoint, ...]) -> Verdict:
    if not anywhere:
        return "REJECT"
    return "ACCEPT" if chosen else "DROP"


@dataclass(frozen=True, order=True, slots=True)
class HealthCheck:
    """What a load balancer may ask this node about one service of externalTrafficPolicy Local."""

    namespace: str
    service: str
    port: int
    """spec.healthCheckNodePort."""
    family: int
    """4 or 6: each family answers for itself, on the node's addresses of that family."""
    local_endpoints: int
    """Ready endpoints on this node, each address once."""


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """The node that is routed for, as far as routes depend on it."""

    name: str
    zone: str = ""
    """Label topology.kubernetes.io/zone; "" when unknown, then no zone is preferred."""
    addresses: tuple[str, ...] = ()
    """The node's primary address of each family, as far as known."""
    families: tuple[int, ...] = (4, 6)
    """IP families whose rules can be written here."""
    family_problem: str = ""
    """Why one is missing, with what to do about it."""
    deny_external_ips: bool = False
    """spec.externalIPs is not programmed, whoever asks for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficSettings:
    """What of the node's configuration shapes rules, alike in every backend; names follow KubeProxyConfiguration."""

    masquerade_all: bool = False
    """Every connection to a cluster IP is masqueraded."""
    masquerade_bit: int = 14
    """0..31; the bit of the packet mark that asks for masquerading."""
    cluster_cidrs: tuple[str, ...] = ()
    """Pod address ranges, one per family at most: a connection from there is a pod's (detectLocalMode ClusterCIDR).

    Where pods can be told, connections to a cluster IP from elsewhere are masqueraded, and pods reach external
    addresses as under policy Cluster.  At most one of the three ways is set.
    """
    pod_bridge: str = ""
    """Name of the interface behind which all pods are (BridgeInterface); "" when pods are not told this way."""
    pod_interface_prefix: str = ""
    """What names of the pods' interfaces begin with (InterfaceNamePrefix); "" when pods are not told this way."""
    node_port_addresses: tuple[str, ...] = ()
    """CIDRs of both families, "primary" resolved: node ports answer on the node's addresses in them.

    A family without any answers on every address of the node.
    """
    service_cidrs: tuple[str, ...] = ()
    """nftables only: CIDRs that cluster IPs come from, of both families; one that no service has is dropped."""
    localhost_node_ports: bool = True
    """iptables only: node ports answer on 127.0.0.1 as well (IPv4 only; needs the sysctl route_localnet)."""
    localnet_note: str = ""
    """iptables only: the file that keeps what route_localnet was before, for the case that the rules are flushed."""
    conntrack_tcp_be_liberal: bool = False
    """The kernel accepts out-of-window packets, so packets of INVALID state are not dropped."""


@dataclass(frozen=True, order=True, slots=True)
class ServiceProblem:
    """Why (a part of) a Service or of its endpoints is not programmed."""

    namespace: str
    service: str
    field: str
    """Path in the object, such as `spec.ports[0].nodePort`; "" when the whole object is meant."""
    message: str
    source: str = ""
    """The file (or other origin) the object came from; "" when unknown."""

    def __str__(self) -> str:
        where = f" {self.field}" if self.field else ""
        return f"cannot program service {self.namespace}/{self.service}{where}: {self.message}"


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """The whole desired state of this node's service traffic."""

    routes: tuple[ServiceRoute, ...]
    """Sorted by name, then family."""
    errors: tuple[ServiceProblem, ...] = ()
    health_checks: tuple[HealthCheck, ...] = ()
    """Sorted; each port once per family."""
