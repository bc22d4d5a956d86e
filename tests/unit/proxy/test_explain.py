"""`proxy explain` tells what the packets of tests/kernel/test_external_traffic.py were seen to do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.explain import Explanation, Question, explain
from proxy.routes import Endpoint, PortName, RoutingTable, ServiceProblem, ServiceRoute, TrafficSettings

HERE, THERE = Endpoint("10.244.0.1", 8080, True), Endpoint("10.244.1.1", 8080, False)
ROUTE = ServiceRoute(
    name=PortName("default", "web", "", "TCP"),
    family=4,
    cluster_ip="10.96.0.10",
    port=80,
    node_port=30080,
    affinity_timeout_s=None,
    endpoints=(HERE, THERE),
    local_endpoints=(HERE,),
    internal_local=False,
    external_local=False,
    external_ips=("203.0.113.9",),
    load_balancer_ips=("203.0.113.1",),
)
PODS = TrafficSettings(cluster_cidrs=("10.244.0.0/16",))
OUTSIDER, POD, NODE = "198.51.100.7", "10.244.0.5", "192.0.2.1"


def ask(
    client: str, address: str, port: int = 80, route: ServiceRoute = ROUTE, settings: TrafficSettings = PODS
) -> Explanation:
    question = Question(
        client=client, address=address, port=port, protocol="TCP",
        client_is_node=client == NODE, address_is_node=address in (NODE, "127.0.0.1"),
    )  # fmt: skip
    return explain(RoutingTable((route,)), settings, question)


@pytest.mark.parametrize(
    ("client", "address", "port", "change", "verdict", "endpoints", "masquerade"),
    [
        (OUTSIDER, "10.96.0.10", 80, {}, "ACCEPT", 2, True),
        (POD, "10.96.0.10", 80, {}, "ACCEPT", 2, False),
        (POD, "10.96.0.10", 80, {"internal_local": True}, "ACCEPT", 1, False),
        (POD, "10.96.0.10", 80, {"internal_local": True, "local_endpoints": ()}, "DROP", 0, False),
        (OUTSIDER, NODE, 30080, {}, "ACCEPT", 2, True),
        (OUTSIDER, NODE, 30080, {"external_local": True}, "ACCEPT", 1, False),
        (OUTSIDER, NODE, 30080, {"external_local": True, "local_endpoints": ()}, "DROP", 0, False),
        (POD, "203.0.113.1", 80, {"external_local": True, "local_endpoints": ()}, "ACCEPT", 2, False),
        (NODE, "203.0.113.9", 80, {"external_local": True, "local_endpoints": ()}, "ACCEPT", 2, True),
        (OUTSIDER, "203.0.113.9", 80, {"endpoints": (), "local_endpoints": ()}, "REJECT", 0, False),
        (OUTSIDER, "203.0.113.1", 80, {"allowed_sources": ("10.0.0.0/8",)}, "DROP", 0, False),
        (OUTSIDER, "203.0.113.1", 80, {"allowed_sources": ("10.0.0.0/8",), "endpoints": ()}, "REJECT", 0, False),
        (OUTSIDER, "203.0.113.1", 80, {"allowed_sources": ("198.51.100.0/24",)}, "ACCEPT", 2, True),
        (OUTSIDER, "203.0.113.9", 80, {"allowed_sources": ("10.0.0.0/8",)}, "ACCEPT", 2, True),
        (OUTSIDER, NODE, 80, {}, "NONE", 0, False),
        (OUTSIDER, "203.0.113.77", 30080, {}, "NONE", 0, False),
    ],
)
def test_verdicts_are_those_that_packets_meet(
    client: str, address: str, port: int, change: dict[str, object], verdict: str, endpoints: int, masquerade: bool
) -> None:
    answer = ask(client, address, port, replace(ROUTE, **change))  # type: ignore[arg-type] # one field per case
    assert (answer.verdict, len(answer.endpoints), answer.masquerade) == (verdict, endpoints, masquerade)
    assert answer.reasons


def test_source_ranges_of_a_service_without_endpoints_count_in_mode_nftables_only() -> None:
    empty = replace(ROUTE, endpoints=(), local_endpoints=(), allowed_sources=("10.0.0.0/8",))
    question = Question(
        client=OUTSIDER, address="203.0.113.1", port=80, protocol="TCP", client_is_node=False, address_is_node=False
    )
    verdicts = [explain(RoutingTable((empty,)), PODS, question, guards_empty=each).verdict for each in (False, True)]
    assert verdicts == ["REJECT", "DROP"]


def test_an_address_that_no_service_has_is_dropped_where_the_range_of_services_is_known() -> None:
    known = TrafficSettings(service_cidrs=("10.96.0.0/16", "fd96::/112"))
    asked = [("10.96.0.11", 80), ("10.96.0.10", 81), ("10.97.0.1", 80)]
    assert [ask(POD, address, port, settings=known).verdict for address, port in asked] == ["DROP", "NONE", "NONE"]
    (why,) = ask(POD, "10.96.0.11", settings=known).reasons
    assert why.endswith("nor has any the address, which is in their range: dropped")
    assert ask(POD, "10.96.0.11").verdict == "NONE"


def test_settings_decide_who_is_a_pod_and_where_node_ports_answer() -> None:
    assert not ask(OUTSIDER, "10.96.0.10", settings=TrafficSettings()).masquerade
    assert ask(POD, "10.96.0.10", settings=TrafficSettings(masquerade_all=True)).masquerade
    by_name = TrafficSettings(pod_interface_prefix="cali")
    assert not ask(HERE.ip, "10.96.0.10", settings=by_name).masquerade
    assert "cali" in " ".join(ask(POD, "10.96.0.10", settings=by_name).reasons)
    elsewhere = TrafficSettings(node_port_addresses=("10.0.0.0/8",))
    assert ask(OUTSIDER, NODE, 30080, settings=elsewhere).verdict == "NONE"
    assert ask(NODE, "127.0.0.1", 30080, settings=TrafficSettings(localhost_node_ports=False)).verdict == "NONE"
    assert ask(NODE, "127.0.0.1", 30080).verdict == "ACCEPT"


def test_what_was_left_out_is_quoted_where_nobody_answers() -> None:
    problem = ServiceProblem(
        "default", "thief", "spec.externalIPs", "203.0.113.5:80/TCP belongs to service default/web"
    )
    question = Question(
        client=POD, address="203.0.113.5", port=80, protocol="TCP", client_is_node=False, address_is_node=False
    )
    answer = explain(RoutingTable((ROUTE,), (problem,)), PODS, question)
    assert any("thief" in reason for reason in answer.reasons)


def test_the_backend_names_its_rules() -> None:
    question = Question(
        client=POD, address="203.0.113.9", port=80, protocol="TCP", client_is_node=False, address_is_node=False
    )
    answer = explain(RoutingTable((ROUTE,)), PODS, question, lambda route, door: f"{route.name.service} by {door}")
    assert "its rules: web by external IP" in answer.reasons
