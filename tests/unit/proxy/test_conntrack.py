"""Which UDP flows are stale, and when it is worth looking for them."""

from __future__ import annotations

from dataclasses import replace

from proxy.backend import FlowsLook
from proxy.conntrack import Frontends, StaleFlows, frontends, stale, worth_looking
from proxy.conntrack_netlink import Flow
from proxy.routes import Endpoint, PortName, ServiceRoute

A, B = (Endpoint(f"10.244.0.{n}", 53, local=n == 1) for n in (1, 2))
VIP, NODE = "10.96.0.10", "192.0.2.1"


def dns(*endpoints: Endpoint, protocol: str = "UDP", node_port: int = 30053, **policy: bool) -> ServiceRoute:
    return ServiceRoute(
        name=PortName("kube-system", "dns", "dns", protocol),
        family=4,
        cluster_ip=VIP,
        port=53,
        node_port=node_port,
        affinity_timeout_s=None,
        endpoints=endpoints,
        local_endpoints=tuple(e for e in endpoints if e.local),
        internal_local=policy.get("internal_local", False),
        external_local=policy.get("external_local", False),
    )


def flow(dst: str, dst_port: int, reply_src: str, reply_src_port: int = 53) -> Flow:
    return Flow(4, "10.244.0.9", 40000, dst, dst_port, reply_src, reply_src_port, b"")


def gone(flows: list[Flow], suspects: Frontends) -> list[Flow]:
    return stale(flows, suspects, lambda address: address == NODE)


def test_only_flows_to_a_service_that_lead_elsewhere_are_stale() -> None:
    good = [flow(VIP, 53, A.ip), flow(NODE, 30053, A.ip)]
    unrelated = [
        flow("8.8.8.8", 53, "8.8.8.8"),
        flow("198.51.100.1", 30053, "198.51.100.1", 30053),
        flow(VIP, 54, B.ip),
    ]
    wrong = [flow(VIP, 53, B.ip), flow(VIP, 53, VIP), flow(VIP, 53, A.ip, 5353), flow(NODE, 30053, NODE, 30053)]
    assert gone([*good, *unrelated, *wrong], frontends([dns(A)])) == wrong


def test_policies_and_termination_end_no_flow_to_an_endpoint_that_serves() -> None:
    for route in (dns(A, B, internal_local=True), dns(A, B, external_local=True)):
        local = frontends([route])
        assert gone([flow(VIP, 53, A.ip), flow(VIP, 53, B.ip), flow(NODE, 30053, B.ip)], local) == []
    draining = frontends([replace(dns(A), draining=(B,))])
    assert gone([flow(VIP, 53, B.ip), flow(NODE, 30053, B.ip)], draining) == []
    assert worth_looking(frontends([dns(A, B)]), draining) is None
    assert worth_looking(draining, frontends([dns(A)])) == frontends([dns(A)])


def test_flows_to_external_addresses_and_of_sctp_are_judged_by_their_own_route() -> None:
    external = replace(dns(A), external_ips=("203.0.113.9",), load_balancer_ips=("203.0.113.1",))
    wrong = [flow("203.0.113.9", 53, B.ip), flow("203.0.113.1", 53, B.ip)]
    assert gone([flow("203.0.113.9", 53, A.ip), flow("203.0.113.9", 54, B.ip), *wrong], frontends([external])) == wrong
    sctp = dns(B, protocol="SCTP")
    over_sctp = [replace(flow(VIP, 53, ip), protocol="SCTP") for ip in (A.ip, B.ip)]
    assert gone([flow(VIP, 53, A.ip), *over_sctp], frontends([dns(A), sctp])) == over_sctp[:1]
    assert gone([flow(NODE, 30053, A.ip)], frontends([sctp])) == []


def test_each_family_is_looked_at_on_its_own() -> None:
    six = replace(dns(Endpoint("fd00::1", 53, True)), family=6, cluster_ip="fd96::a")
    both = frontends([dns(A), six])
    assert both.of_family(4) == frontends([dns(A)])
    assert both.of_family(6) == frontends([six])


async def test_where_one_family_failed_the_other_is_looked_at_and_nothing_is_taken_for_gone() -> None:
    looks: list[tuple[int, Frontends]] = []

    def look(suspects: Frontends, family: int) -> FlowsLook:
        looks.append((family, suspects))
        return FlowsLook(0.1, 2)

    def told() -> list[tuple[int, Frontends]]:
        found, looks[:] = looks.copy(), []
        return found

    one, two = (
        replace(dns(Endpoint(f"fd00::{n}", 53, True)), family=6, cluster_ip="fd96::a", node_port=0) for n in (1, 2)
    )
    flows = StaleFlows(look)
    assert await flows.drop_stale((dns(A, B), one)) == {4: FlowsLook(0.1, 2), 6: FlowsLook(0.1, 2)}
    told()
    await flows.drop_stale((dns(B), two), families=())
    assert told() == []
    assert await flows.drop_stale((dns(B), two), families=(4,)) == {4: FlowsLook(0.1, 2)}
    assert told() == [(4, frontends([dns(B)]))]
    await flows.drop_stale((dns(B), two))
    assert told() == [(6, frontends([two]))], "what the other family has missed is not forgotten"
    flows.forget()
    await flows.drop_stale((dns(B), two), families=(6,))
    assert told() == [(6, frontends([two]))]
    await flows.drop_stale((dns(B), two))
    assert [family for family, _ in told()] == [4, 6], "nor that all flows of it are to be looked at"


def test_when_to_look() -> None:
    both, one, none = (frontends([dns(*which)]) for which in ((A, B), (A,), ()))
    assert worth_looking(None, frontends([dns(A, protocol="TCP")])) is None
    assert worth_looking(None, both) == both
    assert worth_looking(both, both) is None
    assert worth_looking(one, both) is None
    assert worth_looking(both, one) == one
    assert worth_looking(none, one) == one
    assert worth_looking(one, none) == none
    removed = worth_looking(one, frontends([]))
    assert removed == Frontends({("UDP", VIP, 53): frozenset()}, {("UDP", 4, 30053): frozenset()})
