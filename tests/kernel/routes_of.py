"""Routes for kernel tests, in few words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from proxy.routes import Endpoint, PortName, RoutingTable, ServiceRoute
from tests.kernel.netlab import POD_PORT, Pod

VIP, VIP6, PORT, NODE_PORT = "10.96.0.10", "fd00:96::10", 80, 30080


def route(
    pods: Iterable[Pod],
    *,
    service: str = "web",
    protocol: str = "TCP",
    family: int = 4,
    vip: str = "",
    node_port: int = 0,
    affinity_s: int | None = None,
    local: Iterable[Pod] = (),
    internal_local: bool = False,
    external_local: bool = False,
    **more: Any,
) -> ServiceRoute:
    """A service port; `local` are the pods a Local policy may use."""

    def endpoints(of: Iterable[Pod]) -> tuple[Endpoint, ...]:
        return tuple(sorted(Endpoint(pod.ip if family == 4 else pod.ip6, POD_PORT, local=True) for pod in of))

    return ServiceRoute(
        name=PortName("default", service, protocol.lower(), protocol),
        family=family,
        cluster_ip=vip or (VIP if family == 4 else VIP6),
        port=PORT,
        node_port=node_port,
        affinity_timeout_s=affinity_s,
        endpoints=endpoints(pods),
        local_endpoints=endpoints(local),
        internal_local=internal_local,
        external_local=external_local,
        **more,
    )


def table(*routes: ServiceRoute) -> RoutingTable:
    """The whole desired state."""
    return RoutingTable(tuple(sorted(routes, key=lambda each: each.name)))


def many(count: int, service: str = "bulk") -> tuple[ServiceRoute, ...]:
    """Services of two endpoints each, which nobody serves."""
    return tuple(
        ServiceRoute(
            name=PortName("default", f"{service}-{number:05}", "http", "TCP"),
            family=4,
            cluster_ip=f"10.97.{number // 250}.{number % 250 + 1}",
            port=PORT,
            node_port=0,
            affinity_timeout_s=None,
            endpoints=(
                Endpoint(f"10.128.{number // 250}.{number % 250 + 1}", 8080, local=False),
                Endpoint(f"10.129.{number // 250}.{number % 250 + 1}", 8080, local=False),
            ),
            local_endpoints=(),
            internal_local=False,
            external_local=False,
        )
        for number in range(count)
    )
