"""Short constructors for proxy facts, shared by the tests beside it."""

from __future__ import annotations

from proxy.endpoints import PodFacts, SliceEndpointFacts, SliceFacts
from proxy.services import ServiceFacts, ServicePortFacts


def service(
    name: str = "web",
    cluster_ip: str = "10.96.0.10",
    *,
    selector: dict[str, str] | None = None,
    port: ServicePortFacts | None = None,
    publish_not_ready: bool = False,
) -> ServiceFacts:
    return ServiceFacts(
        namespace="default",
        name=name,
        cluster_ips=(cluster_ip,) if cluster_ip else (),
        ports=(port or ServicePortFacts("", "TCP", 80, 8080, 0),),
        selector=tuple(sorted((selector or {}).items())),
        affinity_timeout_s=None,
        internal_local=False,
        external_local=False,
        publish_not_ready=publish_not_ready,
        source=f"{name}.yaml",
    )


def slice_endpoint(
    ip: str,
    *,
    ready: bool = True,
    serving: bool = True,
    terminating: bool = False,
    node: str = "",
    hints: frozenset[str] = frozenset(),
    zones: frozenset[str] = frozenset(),
) -> SliceEndpointFacts:
    return SliceEndpointFacts(ip, ready, serving, terminating, node, hints, zones)


def piece(*endpoints: SliceEndpointFacts, service_name: str = "web", name: str = "web-1") -> SliceFacts:
    return SliceFacts("default", name, service_name, (("", "TCP", 8080),), endpoints, f"{name}.yaml")


def pod(
    name: str,
    ip: str,
    labels: dict[str, str],
    *,
    serving: bool = True,
    terminating: bool = False,
    finished: bool = False,
    ports: tuple[tuple[str, str, int], ...] = (),
) -> PodFacts:
    return PodFacts("default", name, frozenset(labels.items()), (ip,), serving, terminating, finished, ports)
