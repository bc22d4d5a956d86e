"""Routes: the backend-neutral answer to "where does traffic for this service port go?".  Pure, no I/O.

Before: `proxy.resolve` makes these values out of Service facts and endpoint facts.
Next: a backend (`proxy.iptables`) renders them.  A backend sees nothing but a `RoutingTable`: traffic policies,
terminating endpoints and topology were resolved once, before it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True, slots=True)
class PortName:
    """The name of one service port; `port` is "" for a service with a single unnamed port."""

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
    """Everything a backend needs to carry one service port of one IP family."""

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
    """Cluster policy: ready ones, or serving terminating ones when none is ready; sorted, unique."""
    local_endpoints: tuple[Endpoint, ...]
    """Local policy: the same choice made among this node's endpoints only; sorted, unique."""
    internal_local: bool
    """internalTrafficPolicy: Local."""
    external_local: bool
    """externalTrafficPolicy: Local."""
    draining: tuple[Endpoint, ...] = ()
    """UDP only: further endpoints that still serve.  No new flow goes there; those that do already may stay."""


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
    """Sorted by name."""
    errors: tuple[ServiceProblem, ...] = ()
