"""What a Service asks for, as typed facts.  Pure.

Before: `proxy.sources.manifest` validated and defaulted the API object.  Next: `proxy.clashes` says what of it belongs
to somebody else, `proxy.endpoints` finds who answers and `proxy.resolve` joins all three into routes.
"""

from __future__ import annotations

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
    app_protocol: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceFacts:
    """One Service, defaulted and validated, without what a proxy never looks at."""

    namespace: str
    name: str
    kind: str = "ClusterIP"
    """spec.type."""
    cluster_ips: tuple[str, ...]
    """Canonical text, one per IP family, the primary one first; () when nothing is to be programmed (headless,
    ExternalName, label service-proxy-name)."""
    ports: tuple[ServicePortFacts, ...]
    selector: tuple[tuple[str, str], ...]
    """Sorted pairs; empty when endpoints come from EndpointSlices."""
    affinity_timeout_s: int | None
    internal_local: bool
    external_local: bool
    publish_not_ready: bool
    source: str
    external_ips: tuple[str, ...] = ()
    """Canonical text, both families."""
    load_balancer_ips: tuple[str, ...] = ()
    """Ingress addresses of ipMode VIP; canonical text, both families."""
    source_ranges: tuple[str, ...] = ()
    """CIDRs in canonical text, both families."""
    health_check_node_port: int = 0
    """0 unless the type is LoadBalancer and externalTrafficPolicy is Local."""
    problems: tuple[ServiceProblem, ...] = ()
    """What this Service asks for and does not get."""

    @property
    def key(self) -> tuple[str, str]:
        """(namespace, name)."""
        return self.namespace, self.name

    @property
    def is_programmed(self) -> bool:
        """It has a cluster IP that this proxy serves."""
        return bool(self.cluster_ips)

    @property
    def needs_pods(self) -> bool:
        """True when its endpoints come from the agent's pods."""
        return bool(self.selector) and bool(self.cluster_ips)


def family_of(address: str) -> int:
    """4 or 6, of an address or CIDR in canonical text."""
    return 6 if ":" in address else 4
