"""Which endpoints new connections go to: readiness, termination and topology decided, once for each policy.  Pure.

Before: `proxy.endpoints` found everybody who could answer.  Next: `proxy.resolve` writes the choice into routes.
"""

from __future__ import annotations

from collections.abc import Iterable

from proxy.endpoints import EndpointFacts
from proxy.routes import Endpoint, NodeFacts


def choose_cluster(endpoints: Iterable[EndpointFacts], node: NodeFacts) -> tuple[Endpoint, ...]:
    """Cluster policy: the ready ones, or else those that still serve while they terminate (KEP-1669).

    Hints, which a controller sets as trafficDistribution says, narrow the ready ones down: to this node's when every
    one of them has node hints and one names this node (PreferSameNode, KEP-3015), otherwise to this zone's by the same
    rule (PreferSameZone, PreferClose, topology mode Auto).  Else all are taken: better far than none.
    """
    every = tuple(endpoints)
    ready = tuple(endpoint for endpoint in every if endpoint.ready)
    if not ready:
        return _chosen(endpoint for endpoint in every if endpoint.serving and endpoint.terminating)
    near: tuple[EndpointFacts, ...] = ()
    if all(endpoint.node_hints for endpoint in ready):
        near = tuple(endpoint for endpoint in ready if node.name in endpoint.node_hints)
    if not near and node.zone and all(endpoint.zone_hints for endpoint in ready):
        near = tuple(endpoint for endpoint in ready if node.zone in endpoint.zone_hints)
    return _chosen(near or ready)


def choose_local(endpoints: Iterable[EndpointFacts]) -> tuple[Endpoint, ...]:
    """Local policy: the same choice among this node's endpoints only, without hints."""
    mine = tuple(endpoint for endpoint in endpoints if endpoint.local)
    if not mine:
        return ()
    ready = _chosen(endpoint for endpoint in mine if endpoint.ready)
    return ready or _chosen(endpoint for endpoint in mine if endpoint.serving and endpoint.terminating)


def choose_draining(endpoints: Iterable[EndpointFacts], *chosen: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
    """Those that serve and were not chosen: flows to them outlive a change of policy, as TCP connections do.

    Source: kube-proxy's conntrack reconciler looks at the condition `serving` alone.
    """
    return tuple(sorted(set(_chosen(endpoint for endpoint in endpoints if endpoint.serving)).difference(*chosen)))


def _chosen(endpoints: Iterable[EndpointFacts]) -> tuple[Endpoint, ...]:
    return tuple(sorted({Endpoint(endpoint.ip, endpoint.port, endpoint.local) for endpoint in endpoints}))
