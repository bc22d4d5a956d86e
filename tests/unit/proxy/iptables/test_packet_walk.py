"""Virtual packets through the rendered rules end where `proxy.explain` says, whatever the service looks like."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.explain import Question, explain
from proxy.iptables.frame import RenderConfig
from proxy.iptables.render import render
from proxy.routes import Endpoint, PortName, RoutingTable, ServiceRoute, TrafficSettings
from tests.unit.proxy.iptables.walk import Outcome, Packet, walk

NODE, NODE6 = "192.0.2.1", "2001:db8:1::1"
OWN = frozenset({NODE, NODE6, "10.244.0.1", "fd00:244::1"})
CLIENTS = {4: ("10.244.0.5", "198.51.100.7", NODE, "127.0.0.1"), 6: ("fd00:244::5", "2001:db8:2::7", NODE6)}
ADDRESSES = {
    4: ("10.96.0.10", "203.0.113.9", "203.0.113.1", NODE, "10.244.0.1", "127.0.0.1", "198.51.100.99"),
    6: ("fd00:96::10", "2001:db8::9", "2001:db8::1", NODE6, "fd00:244::1", "2001:db8:2::99"),
}


@st.composite
def routes(draw: st.DrawFn, family: int) -> ServiceRoute:
    pods = "10.244.0." if family == 4 else "fd00:244::"
    numbers = draw(st.lists(st.integers(5, 8), unique=True, max_size=3))
    endpoints = tuple(sorted(Endpoint(f"{pods}{n}", 8080, draw(st.booleans())) for n in numbers))
    ranges = draw(st.sampled_from(((), ("10.244.0.0/16",), ("198.51.100.7/32", "203.0.113.1/32"))))
    return ServiceRoute(
        name=PortName("default", "web", "", draw(st.sampled_from(("TCP", "UDP", "SCTP")))),
        family=family,
        cluster_ip=ADDRESSES[family][0],
        port=80,
        node_port=draw(st.sampled_from((0, 30080))),
        affinity_timeout_s=draw(st.sampled_from((None, 60))),
        endpoints=endpoints,
        local_endpoints=tuple(endpoint for endpoint in endpoints if endpoint.local),
        internal_local=draw(st.booleans()),
        external_local=draw(st.booleans()),
        external_ips=draw(st.sampled_from(((), (ADDRESSES[family][1],)))),
        load_balancer_ips=draw(st.sampled_from(((), (ADDRESSES[family][2],)))),
        allowed_sources=ranges if family == 4 else (),
    )


configurations = st.builds(
    TrafficSettings,
    masquerade_all=st.booleans(),
    masquerade_bit=st.sampled_from((14, 0)),
    cluster_cidrs=st.sampled_from(((), ("10.244.0.0/16", "fd00:244::/64"))),
    node_port_addresses=st.sampled_from(((), ("192.0.2.0/24", "2001:db8:1::/64"))),
    localhost_node_ports=st.booleans(),
)


@settings(max_examples=300, deadline=None)
@given(st.data(), st.sampled_from((4, 6)), configurations)
def test_packets_go_where_explain_says(data: st.DataObject, family: int, config: TrafficSettings) -> None:
    route = data.draw(routes(family))
    client = data.draw(st.sampled_from(CLIENTS[family]))
    address = data.draw(st.sampled_from(ADDRESSES[family]))
    port = data.draw(st.sampled_from((80, 30080)))
    from_node = client in OWN or client == "127.0.0.1"
    if address == "127.0.0.1" and client != address:
        return  # such a packet does not exist, or the guard of CVE-2020-8558 drops it
    question = Question(
        client=client, address=address, port=port, protocol=route.name.protocol,
        client_is_node=from_node, address_is_node=address in OWN or address == "127.0.0.1",
    )  # fmt: skip
    answer = explain(RoutingTable((route,)), config, question)
    packet = Packet(client, address, port, route.name.protocol, OWN, interface="" if from_node else "eth0")
    outcomes = walk(render([route], RenderConfig.of(config), family), packet)

    if answer.verdict == "NONE":
        assert outcomes == {Outcome("ACCEPT")}
    elif answer.verdict in ("REJECT", "DROP"):
        assert outcomes == {Outcome(answer.verdict)}
    else:
        expected = set()
        for endpoint in answer.endpoints:
            target = f"[{endpoint.ip}]:8080" if family == 6 else f"{endpoint.ip}:8080"
            expected.add(Outcome("ACCEPT", target, answer.masquerade or endpoint.ip == client))
        assert outcomes == expected
