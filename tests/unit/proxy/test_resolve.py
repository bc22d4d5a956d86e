"""Who gets the traffic: readiness, termination, policies, hints, clashes, and what is taken over unchanged."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.endpoints import SliceEndpointFacts, is_plain_ipv4, refuse_address
from proxy.resolve import Resolution, resolve
from proxy.routes import Endpoint, NodeFacts
from proxy.services import ServiceFacts, ServicePortFacts
from tests.unit.proxy.facts import piece, pod, service, slice_endpoint


def ips(endpoints: Iterable[Endpoint]) -> list[str]:
    return [endpoint.ip for endpoint in endpoints]


def test_ready_endpoints_of_a_slice_take_the_traffic_and_know_whether_they_are_local() -> None:
    slices = [piece(slice_endpoint("10.0.0.2", node="node-a"), slice_endpoint("10.0.0.1", node="node-b"))]
    (route,) = resolve([service()], slices, [], NodeFacts("node-a")).table.routes
    assert route.endpoints == (Endpoint("10.0.0.1", 8080, False), Endpoint("10.0.0.2", 8080, True))
    assert ips(route.local_endpoints) == ["10.0.0.2"]


def test_terminating_endpoints_serve_only_when_none_is_ready() -> None:
    leaving = slice_endpoint("10.0.0.2", ready=False, terminating=True, node="node-a")
    gone = slice_endpoint("10.0.0.3", ready=False, serving=False, terminating=True, node="node-a")
    unready = slice_endpoint("10.0.0.4", ready=False, serving=False, node="node-a")
    ready = slice_endpoint("10.0.0.1", node="node-b")
    (with_ready,) = resolve([service()], [piece(leaving, gone, unready, ready)], [], NodeFacts("node-a")).table.routes
    assert ips(with_ready.endpoints) == ["10.0.0.1"]
    assert ips(with_ready.local_endpoints) == ["10.0.0.2"], "the choice is made for the Local policy on its own"
    (without,) = resolve([service()], [piece(leaving, gone, unready)], [], NodeFacts("node-a")).table.routes
    assert ips(without.endpoints) == ["10.0.0.2"]


def test_flows_of_udp_may_stay_with_every_endpoint_that_serves() -> None:
    leaving = slice_endpoint("10.0.0.2", ready=False, terminating=True)
    unready = slice_endpoint("10.0.0.3", ready=False, serving=False)
    far = slice_endpoint("10.0.0.4", hints=frozenset({"node-b"}))
    near = slice_endpoint("10.0.0.1", hints=frozenset({"node-a"}))
    dns = service(port=ServicePortFacts("", "UDP", 53, 8080, 0))
    found = replace(piece(leaving, unready, far, near), ports=(("", "UDP", 8080),))
    (route,) = resolve([dns], [found], [], NodeFacts("node-a")).table.routes
    assert (ips(route.endpoints), ips(route.draining)) == (["10.0.0.1"], ["10.0.0.2", "10.0.0.4"])
    (tcp,) = resolve([service()], [piece(leaving, near)], [], NodeFacts("node-a")).table.routes
    assert tcp.draining == (), "a TCP connection needs nobody to keep it"


def test_of_two_endpoints_with_one_address_the_running_one_wins_whatever_the_order() -> None:
    old = slice_endpoint("10.0.0.1", ready=False, terminating=True)
    new = slice_endpoint("10.0.0.1")
    for first, second in ((old, new), (new, old)):
        slices = [piece(first), piece(second, name="web-2")]
        (route,) = resolve([service()], slices, [], NodeFacts("n")).table.routes
        assert ips(route.endpoints) == ["10.0.0.1"]


def test_where_a_new_pod_has_the_address_of_one_that_terminates_nothing_is_sent_there_until_it_is_ready() -> None:
    old = slice_endpoint("10.0.0.1", ready=False, terminating=True)
    new = slice_endpoint("10.0.0.1", ready=False, serving=False)
    for first, second in ((old, new), (new, old)):
        slices = [piece(first), piece(second, name="web-2")]
        (route,) = resolve([service()], slices, [], NodeFacts("n")).table.routes
        assert (route.endpoints, route.internal_verdict) == ((), "REJECT")


def test_node_hints_count_when_every_ready_endpoint_has_them_and_one_names_this_node() -> None:
    here = slice_endpoint("10.0.0.1", hints=frozenset({"node-a"}))
    there = slice_endpoint("10.0.0.2", hints=frozenset({"node-b"}))
    bare = slice_endpoint("10.0.0.3")
    assert ips(resolve([service()], [piece(here, there)], [], NodeFacts("node-a")).table.routes[0].endpoints) == [
        "10.0.0.1"
    ]
    assert len(resolve([service()], [piece(here, there, bare)], [], NodeFacts("node-a")).table.routes[0].endpoints) == 3
    assert len(resolve([service()], [piece(here, there)], [], NodeFacts("node-c")).table.routes[0].endpoints) == 2


def test_zone_hints_count_when_every_ready_endpoint_has_them_and_one_names_this_zone() -> None:
    near, far, bare = (
        SliceEndpointFacts(ip, True, True, False, "", zone_hints=frozenset(zones))
        for ip, zones in (("10.0.0.1", {"a"}), ("10.0.0.2", {"b"}), ("10.0.0.3", ()))
    )

    def chosen(zone: str, *endpoints: SliceEndpointFacts) -> list[str]:
        (route,) = resolve([service()], [piece(*endpoints)], [], NodeFacts("n", zone=zone)).table.routes
        return ips(route.endpoints)

    assert chosen("a", near, far) == ["10.0.0.1"]
    assert chosen("a", near, far, bare) == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    assert chosen("c", near, far) == chosen("", near, far) == ["10.0.0.1", "10.0.0.2"]


def test_a_selector_matches_pods_of_its_namespace_with_all_its_labels() -> None:
    wanted = service(selector={"app": "web", "tier": "front"})
    both = pod("a", "10.0.0.1", {"app": "web", "tier": "front", "more": "x"})
    one = pod("b", "10.0.0.2", {"app": "web"})
    elsewhere = replace(both, namespace="other", ips=("10.0.0.3",))
    (route,) = resolve([wanted], [], [both, one, elsewhere], NodeFacts("n")).table.routes
    assert route.endpoints == route.local_endpoints == (Endpoint("10.0.0.1", 8080, True),)


def test_slices_are_ignored_by_a_service_with_a_selector() -> None:
    (route,) = resolve(
        [service(selector={"a": "b"})], [piece(slice_endpoint("10.0.0.1"))], [], NodeFacts("n")
    ).table.routes
    assert route.endpoints == ()


@pytest.mark.parametrize(
    ("change", "publish", "expected"),
    [
        ({}, False, ["10.0.0.1"]),
        ({"serving": False}, False, []),
        ({"serving": False}, True, ["10.0.0.1"]),
        ({"finished": True}, True, []),
        ({"terminating": True}, False, ["10.0.0.1"]),
        ({"terminating": True, "serving": False}, False, []),
        ({"terminating": True, "serving": False}, True, ["10.0.0.1"]),
        ({"ips": ()}, True, []),
    ],
)
def test_pods_become_endpoints_as_the_controller_makes_them(
    change: dict[str, object], publish: bool, expected: list[str]
) -> None:
    one = replace(pod("a", "10.0.0.1", {"app": "web"}), **change)  # type: ignore[arg-type] # one field per case
    wanted = service(selector={"app": "web"}, publish_not_ready=publish)
    (route,) = resolve([wanted], [], [one], NodeFacts("n")).table.routes
    assert ips(route.endpoints) == expected


def test_a_named_target_port_is_looked_up_in_each_pod() -> None:
    wanted = service(selector={"app": "web"}, port=ServicePortFacts("", "TCP", 80, "http", 0))
    pods = [
        pod("a", "10.0.0.1", {"app": "web"}, ports=(("http", "UDP", 1), ("http", "TCP", 8080))),
        pod("b", "10.0.0.2", {"app": "web"}, ports=(("http", "TCP", 9090),)),
        pod("c", "10.0.0.3", {"app": "web"}),
    ]
    table = resolve([wanted], [], pods, NodeFacts("n")).table
    assert [(e.ip, e.port) for e in table.routes[0].endpoints] == [("10.0.0.1", 8080), ("10.0.0.2", 9090)]
    assert [str(error) for error in table.errors] == [
        "cannot program service default/web spec.ports[0].targetPort: pod default/c has no container port named 'http'"
    ]


@pytest.mark.parametrize("ip", ["127.0.0.1", "169.254.1.1", "224.0.0.1", "0.0.0.0", "255.255.255.255"])
def test_a_pod_on_an_address_of_the_node_alone_is_refused_and_named(ip: str) -> None:
    table = resolve([service(selector={"app": "web"})], [], [pod("a", ip, {"app": "web"})], NodeFacts("n")).table
    assert table.routes[0].endpoints == ()
    assert ip in table.errors[0].message
    assert "pod default/a" in table.errors[0].message


def test_of_two_services_with_one_address_the_first_keeps_it() -> None:
    first, second = service("b-first"), service("a-second")
    other_port = replace(second, name="other", ports=(ServicePortFacts("", "TCP", 81, 81, 0),))
    other_protocol = replace(second, name="udp", ports=(ServicePortFacts("", "UDP", 80, 80, 0),))
    table = resolve([first, second, other_port, other_protocol], [], [], NodeFacts("n")).table
    assert [route.name.service for route in table.routes] == ["b-first", "other", "udp"]
    assert [(e.service, e.field, e.message) for e in table.errors] == [
        ("a-second", "spec.ports[0].port", "10.96.0.10:80/TCP belongs to service default/b-first")
    ]


def test_a_node_port_clash_takes_only_the_node_port() -> None:
    first = service("first", port=ServicePortFacts("", "TCP", 80, 80, 30080))
    second = service("second", "10.96.0.11", port=ServicePortFacts("", "TCP", 80, 80, 30080))
    table = resolve([first, second], [], [], NodeFacts("n")).table
    assert [(r.cluster_ip, r.node_port) for r in table.routes] == [("10.96.0.10", 30080), ("10.96.0.11", 0)]
    assert table.errors[0].field == "spec.ports[0].nodePort"


def test_services_that_did_not_change_keep_their_routes() -> None:
    services = [service("a", "10.96.0.1", selector={"app": "a"}), service("b", "10.96.0.2", selector={"app": "b"})]
    before = resolve(
        services, [], [pod("a", "10.0.0.1", {"app": "a"}), pod("b", "10.0.0.2", {"app": "b"})], NodeFacts("n")
    )
    pods = [pod("a", "10.0.0.9", {"app": "a"}), pod("b", "10.0.0.2", {"app": "b"})]
    after = resolve(services, [], pods, NodeFacts("n"), before)
    assert after.table.routes[0].endpoints[0].ip == "10.0.0.9"
    assert after.table.routes[1] is before.table.routes[1]


def test_taking_over_gives_the_same_as_resolving_anew() -> None:
    """Every order of changes ends where a fresh resolution ends."""
    first, second = service("a"), service("b")
    pictures: list[list[ServiceFacts]] = [[first], [first, second], [second], [second, first], [], [first, second]]
    kept = Resolution(resolve([], [], [], NodeFacts("n")).table, {})
    for services in pictures:
        kept = resolve(services, [], [], NodeFacts("n"), kept)
        assert kept.table == resolve(services, [], [], NodeFacts("n")).table


def test_a_headless_service_has_no_route() -> None:
    assert resolve([service(cluster_ip="")], [piece(slice_endpoint("10.0.0.1"))], [], NodeFacts("n")).table.routes == ()


def test_of_two_endpoints_with_one_address_the_ready_one_wins_whatever_the_order() -> None:
    ready = slice_endpoint("10.0.0.1")
    unready = slice_endpoint("10.0.0.1", ready=False, serving=False)
    for first, second in ((ready, unready), (unready, ready)):
        slices = [piece(first), piece(second, name="web-2")]
        (route,) = resolve([service()], slices, [], NodeFacts("n")).table.routes
        assert ips(route.endpoints) == ["10.0.0.1"]


def test_slices_of_a_service_with_a_selector_are_named_as_unused() -> None:
    selected = service(selector={"app": "web"})
    first = resolve(
        [selected], [piece(slice_endpoint("10.0.0.9"))], [pod("a", "10.0.0.1", {"app": "web"})], NodeFacts("n")
    )
    assert ips(first.table.routes[0].endpoints) == ["10.0.0.1"]
    (problem,) = first.table.errors
    assert (problem.field, "is not used" in problem.message) == ("spec.selector", True)
    again = resolve([selected], [], [pod("a", "10.0.0.1", {"app": "web"})], NodeFacts("n"), first)
    assert again.table.errors == ()


@given(st.one_of(st.ip_addresses(v=4).map(str), st.from_regex(r"[0-9]{1,3}(\.[0-9]{1,4}){3}\n?", fullmatch=True)))
@example("0.0.0.0")
@example("10.1.2.3\n")
@example("010.1.2.3")
def test_a_plain_address_is_canonical_and_nobody_refuses_it(text: str) -> None:
    assert is_plain_ipv4("10.96.0.1"), "not everything is looked at twice"
    if is_plain_ipv4(text):
        assert str(ipaddress.IPv4Address(text)) == text
        assert refuse_address(text) is None
