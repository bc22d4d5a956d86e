"""Rules of one route and of the frame, as text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.iptables import model
from proxy.iptables.diff import diff, diff_chains
from proxy.iptables.frame import RenderConfig
from proxy.iptables.names import affinity_list, comment, port_hash
from proxy.iptables.render import Renderer, render
from proxy.iptables.route_rules import probability
from proxy.routes import Endpoint, PortName, ServiceRoute

NAME = PortName("default", "kubernetes", "https", "TCP")
KEY = "NPX46M4PTMTKRN6Y"
A, B, C = (Endpoint(f"10.244.0.{n}", 8443, local=n == 1) for n in (1, 2, 3))


def make(**changes: object) -> ServiceRoute:
    values: dict[str, object] = {
        "name": NAME,
        "family": 4,
        "cluster_ip": "10.96.0.1",
        "port": 443,
        "node_port": 0,
        "affinity_timeout_s": None,
        "endpoints": (A, B, C),
        "local_endpoints": (A,),
        "internal_local": False,
        "external_local": False,
        **changes,
    }
    return ServiceRoute(**values)  # type: ignore[arg-type]  # a table of keywords keeps the cases short


def test_chain_names_are_those_of_kube_proxy() -> None:
    assert port_hash(NAME) == KEY


def test_one_rule_per_endpoint_and_no_chain_for_it() -> None:
    rules = render([make()], RenderConfig())
    assert rules.nat.chains[f"KUBE-SVC-{KEY}"].rules == (
        "-p tcp -m statistic --mode random --probability 0.33333333349 -j DNAT --to-destination 10.244.0.1:8443",
        "-p tcp -m statistic --mode random --probability 0.50000000000 -j DNAT --to-destination 10.244.0.2:8443",
        "-p tcp -j DNAT --to-destination 10.244.0.3:8443",
    )
    assert rules.nat.chains[model.SERVICES].rules[0] == (
        '-d 10.96.0.1/32 -p tcp -m comment --comment "default/kubernetes:https cluster IP" '
        f"-m tcp --dport 443 -j KUBE-SVC-{KEY}"
    )
    assert not [name for name in rules.nat.chains if name.startswith(("KUBE-SEP-", "KUBE-EXT-", "KUBE-SVL-"))]
    assert rules.filter.chains[model.SERVICES].rules == ()


@settings(max_examples=25)
@given(st.integers(min_value=1, max_value=1000))
def test_every_endpoint_has_the_same_share(count: int) -> None:
    left = 1.0
    for among in range(count, 0, -1):
        share = left * float(probability(among))
        assert share == pytest.approx(1 / count, rel=1e-4)
        left -= share


def test_affinity_asks_known_clients_first() -> None:
    rules = (
        render([make(endpoints=(A, B), affinity_timeout_s=10800)], RenderConfig()).nat.chains[f"KUBE-SVC-{KEY}"].rules
    )
    known = affinity_list(NAME, "10.244.0.1:8443")
    assert rules[0] == (
        f"-p tcp -m recent --update --seconds 10800 --reap --name {known} --mask 255.255.255.255 --rsource "
        "-j DNAT --to-destination 10.244.0.1:8443"
    )
    assert rules[2] == (
        "-p tcp -m statistic --mode random --probability 0.50000000000 "
        f"-m recent --set --name {known} --mask 255.255.255.255 --rsource -j DNAT --to-destination 10.244.0.1:8443"
    )
    assert len(rules) == 4


def test_service_without_endpoints_is_refused_and_keeps_its_empty_chain() -> None:
    rules = render([make(endpoints=(), local_endpoints=(), node_port=30443)], RenderConfig())
    assert rules.nat.chains[f"KUBE-SVC-{KEY}"].rules == ()
    assert "REJECT --reject-with icmp-port-unreachable" in rules.filter.chains[model.SERVICES].rules[0]
    assert "--dst-type LOCAL" in rules.filter.chains[model.EXTERNAL_SERVICES].rules[0]


def test_local_policy_without_a_local_endpoint_drops() -> None:
    rules = render(
        [make(local_endpoints=(), node_port=30443, internal_local=True, external_local=True)], RenderConfig()
    )
    assert rules.filter.chains[model.SERVICES].rules[0].endswith("--dport 443 -j DROP")
    assert rules.filter.chains[model.EXTERNAL_SERVICES].rules[0].endswith("--dport 30443 -j DROP")
    assert rules.nat.chains[f"KUBE-SVL-{KEY}"].rules == ()
    assert rules.nat.chains[model.SERVICES].rules[0].endswith(f"-j KUBE-SVL-{KEY}")


def test_node_port_of_cluster_policy_is_masqueraded() -> None:
    rules = render([make(node_port=30443)], RenderConfig()).nat.chains
    assert rules[model.NODE_PORTS].rules[0].endswith(f"-m tcp --dport 30443 -j KUBE-EXT-{KEY}")
    assert [rule.split("-j ")[1] for rule in rules[f"KUBE-EXT-{KEY}"].rules] == [model.MARK_MASQ, f"KUBE-SVC-{KEY}"]


def test_node_port_of_local_policy_keeps_the_source_unless_it_is_this_nodes() -> None:
    config = RenderConfig(cluster_cidrs=("10.244.0.0/16",))
    rules = render([make(node_port=30443, external_local=True)], config).nat.chains[f"KUBE-EXT-{KEY}"].rules
    assert rules[0].startswith("-s 10.244.0.0/16 ")
    assert all("--src-type LOCAL" in rule for rule in rules[1:3])
    assert rules[3] == f"-j KUBE-SVL-{KEY}"


@pytest.mark.parametrize(
    ("config", "rule"),
    [
        (RenderConfig(masquerade_all=True), "-d 10.96.0.1/32 -p tcp -m tcp --dport 443 -j KUBE-MARK-MASQ"),
        (
            RenderConfig(cluster_cidrs=("fd00::/48", "10.244.7.7/16")),
            "! -s 10.244.0.0/16 -d 10.96.0.1/32 -p tcp -m tcp --dport 443 -j KUBE-MARK-MASQ",
        ),
    ],
)
def test_masquerade_of_cluster_ip_traffic(config: RenderConfig, rule: str) -> None:
    assert render([make()], config).nat.chains[f"KUBE-SVC-{KEY}"].rules[0] == rule


@pytest.mark.parametrize(
    ("config", "starts"),
    [
        (RenderConfig(), ["-m comment"]),
        (RenderConfig(localhost_node_ports=False), ["! -d 127.0.0.0/8 -m comment"]),
        (
            RenderConfig(node_port_addresses=("192.0.2.0/24", "198.51.100.7/32")),
            ["-d 192.0.2.0/24", "-d 198.51.100.7/32"],
        ),
        (RenderConfig(node_port_addresses=("fd00::/8",)), ["-m comment"]),
        (RenderConfig(node_port_addresses=("0.0.0.0/0",)), ["-m comment"]),
    ],
)
def test_where_node_ports_answer(config: RenderConfig, starts: list[str]) -> None:
    rules = render([], config).nat.chains[model.SERVICES].rules
    assert len(rules) == len(starts)
    assert all(rule.startswith(start) for rule, start in zip(rules, starts, strict=True))
    assert all(rule.endswith("--dst-type LOCAL -j KUBE-NODEPORTS") for rule in rules)


def test_guard_exists_exactly_with_localhost_node_ports() -> None:
    assert model.FIREWALL in render([], RenderConfig()).filter.chains
    assert model.FIREWALL not in render([], RenderConfig(localhost_node_ports=False)).filter.chains
    assert model.FIREWALL not in render([], RenderConfig(), family=6).filter.chains


def test_masquerade_bit_and_liberal_conntrack() -> None:
    rules = render([], RenderConfig(masquerade_bit=20, conntrack_tcp_be_liberal=True))
    assert rules.nat.chains[model.MARK_MASQ].rules == ("-j MARK --set-xmark 0x100000/0x100000",)
    assert not any("INVALID" in rule for rule in rules.filter.chains[model.FORWARD].rules)


def test_without_bpf_each_endpoint_address_has_one_hairpin_rule() -> None:
    rules = render([make(), make(name=PortName("a", "b", "", "UDP"))], RenderConfig(hairpin_by_bpf=False))
    assert len(rules.nat.chains[model.HAIRPIN].rules) == 3
    assert "-j KUBE-HAIRPIN" in rules.nat.chains[model.POSTROUTING].rules[0]


def test_ipv6_addresses_are_bracketed_and_the_other_family_is_skipped() -> None:
    six = make(family=6, cluster_ip="fd00:96::1", endpoints=(Endpoint("fd00:244::1", 8443, True),), local_endpoints=())
    rules = render([make(), six], RenderConfig(), family=6)
    assert rules.nat.chains[f"KUBE-SVC-{KEY}"].rules == ("-p tcp -j DNAT --to-destination [fd00:244::1]:8443",)
    assert rules.nat.chains[model.SERVICES].rules[0].startswith("-d fd00:96::1/128 ")
    assert rules.nat.chains[model.SERVICES].rules[1].startswith("! -d ::1/128 ")


def test_unchanged_routes_are_not_rendered_again() -> None:
    renderer = Renderer(RenderConfig(), 4)
    other = make(name=PortName("default", "other", "", "TCP"), cluster_ip="10.96.0.2")
    first = renderer.render([make(), other])
    second = renderer.render([make(endpoints=(A,)), make(name=other.name, cluster_ip="10.96.0.2")])
    kept = f"KUBE-SVC-{port_hash(other.name)}"
    assert second.nat.chains[kept] is first.nat.chains[kept]
    assert second.nat.chains[f"KUBE-SVC-{KEY}"] != first.nat.chains[f"KUBE-SVC-{KEY}"]


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.booleans(), st.booleans()), max_size=12))
def test_what_is_followed_is_what_is_rendered_from_nothing(changes: list[tuple[int, int, bool, bool]]) -> None:
    """Endpoints come and go; a service that loses its last one, or gets a node port, is more than its own chains."""
    renderer = Renderer(RenderConfig(), 4)
    routes = {number: make(name=name_of(number), cluster_ip=f"10.96.0.{number}") for number in range(3)}
    kernel = renderer.render(tuple(routes.values()))
    for number, endpoints, outside, leaves in changes:
        some = tuple(Endpoint(f"10.244.0.{each}", 8080, local=False) for each in range(endpoints))
        routes[number] = make(
            name=name_of(number),
            cluster_ip=f"10.96.0.{number}",
            endpoints=some,
            local_endpoints=(),
            node_port=30000 + number if outside else 0,
        )
        if leaves:
            del routes[number]
        wanted = tuple(routes[each] for each in sorted(routes))
        scratch = render(wanted, RenderConfig())
        found = renderer.follow(wanted)
        if found is None:
            assert renderer.latest is kernel, "what is not followed changes nothing"
            kernel = renderer.render(wanted)
        else:
            assert sorted(diff_chains(kernel, *found).chains) == sorted(diff(kernel, scratch).chains)
            assert diff(found[0], scratch).text == ""
            kernel = found[0]
        assert kernel == scratch


def name_of(number: int) -> PortName:
    return PortName("default", f"s{number}", "", "TCP")


@settings(max_examples=30)
@given(st.text(max_size=400))
def test_comments_can_neither_end_the_quotes_nor_be_too_long(text: str) -> None:
    inner = comment(text).removeprefix('-m comment --comment "').removesuffix('"')
    assert len(inner.encode()) <= 255
    assert not set(inner) & set("\"'\\\n\r\t")


@pytest.mark.parametrize("pod_range", ["0.0.0.0/0", ""])
def test_a_range_of_everything_is_no_match_at_all(pod_range: str) -> None:
    ranges = (pod_range,) if pod_range else ()
    rules = render([make(node_port=30000, external_local=True)], RenderConfig(cluster_cidrs=ranges)).nat.chains
    assert not any("-s 0.0.0.0/0" in rule for chain in rules.values() for rule in chain.rules)
    assert len(rules["KUBE-EXT-" + KEY].rules) == (4 if pod_range else 3)
