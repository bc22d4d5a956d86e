"""Routes to elements, and the transactions that bring the kernel from one table to the next."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from proxy.nftables.diff import counts_of, stale_clients, table_difference, valid_clients
from proxy.nftables.frame import STICKY, pod_match
from proxy.nftables.held import Held
from proxy.nftables.model import EMPTY, Table
from proxy.nftables.render import Identifiers, Part, place, render_parts, table_orders, whole_table
from proxy.routes import Endpoint, PortName, ServiceRoute, TrafficSettings
from tests.unit.proxy.nftables.transactions import commit

SETTINGS = TrafficSettings(cluster_cidrs=("10.244.0.0/16",))


def route(number: int = 1, endpoints: int = 2, local: int = 0, **more: object) -> ServiceRoute:
    every = tuple(Endpoint(f"10.244.{number}.{n + 1}", 8080, n < local) for n in range(endpoints))
    plain = ServiceRoute(
        name=PortName("default", f"s{number}", "http", "TCP"),
        family=4,
        cluster_ip=f"10.96.0.{number}",
        port=80,
        node_port=0,
        affinity_timeout_s=None,
        endpoints=every,
        local_endpoints=tuple(endpoint for endpoint in every if endpoint.local),
        internal_local=False,
        external_local=False,
    )
    return replace(plain, **more)  # type: ignore[arg-type] # names and types are ServiceRoute's own


def rendered(*routes: ServiceRoute) -> dict[PortName, Part]:
    return render_parts(routes, 4, {})


def elements(*routes: ServiceRoute) -> dict[str, dict[str, str]]:
    return {name: dict(held) for name, held in whole_table(rendered(*routes), SETTINGS, 4).elements.items() if held}


def test_a_cluster_ip_is_an_element_and_so_is_each_endpoint() -> None:
    assert elements(route()) == {
        "cluster-ips": {"10.96.0.1": ""},
        "services": {"10.96.0.1 . 6 . 80": "goto spread-2"},
        "endpoints-tcp": {
            "10.96.0.1 . 80 . 0": "10.244.1.1 . 8080",
            "10.96.0.1 . 80 . 1": "10.244.1.2 . 8080",
        },
        "hairpin": {"10.244.1.1 . 10.244.1.1": "", "10.244.1.2 . 10.244.1.2": ""},
    }


def test_without_endpoints_refused_and_with_policy_local_dropped() -> None:
    nowhere = elements(route(endpoints=0, node_port=30080, external_ips=("192.0.2.1",)))
    assert nowhere["refused"] == {"10.96.0.1 . 6 . 80": "goto refuse", "192.0.2.1 . 6 . 80": "goto refuse"}
    assert nowhere["node-refused"] == {"6 . 30080": "goto refuse"}
    assert "services" not in nowhere
    elsewhere = elements(route(node_port=30080, external_local=True, internal_local=True))
    assert elsewhere["refused"] == {"10.96.0.1 . 6 . 80": "drop"}
    assert elsewhere["node-refused"] == {"6 . 30080": "drop"}
    assert elsewhere["node-inside"] == {"6 . 30080": "goto node-spread-2"}, "the node itself reaches every endpoint"


def test_the_ranges_of_cluster_ips_are_a_set_of_each_family() -> None:
    settings = TrafficSettings(service_cidrs=("10.96.0.0/16", "10.97.0.0/24", "10.97.1.0/24", "fd96::/112"))
    tables = {family: whole_table({}, settings, family) for family in (4, 6)}
    found = {family: set(table.elements["service-cidrs"]) for family, table in tables.items()}
    assert found == {4: {"10.96.0.0/16", "10.97.0.0/23"}, 6: {"fd96::/112"}}
    for chain in ("filter-forward", "output-after-dnat"):
        last = [rule.text for rule in tables[4].chains[chain].rules][-2:]
        assert last == ["ct state new ip daddr @cluster-ips reject", "ct state new ip daddr @service-cidrs drop"]


def test_policies_of_node_ports_and_load_balancers() -> None:
    cluster = elements(route(node_port=30080, load_balancer_ips=("192.0.2.1",)))
    assert cluster["node-services"] == {"6 . 30080": "goto node-external-spread-2"}
    assert cluster["services"]["192.0.2.1 . 6 . 80"] == "goto external-spread-2"
    local = elements(route(local=1, node_port=30080, external_local=True))
    assert local["node-services"] == {"6 . 30080": "goto node-external-local"}
    assert local["node-outside"] == {"6 . 30080": "goto node-local-spread-1"}
    assert local["node-local-endpoints-tcp"] == {"30080 . 0": "10.244.1.1 . 8080"}
    assert local["services"] == {"10.96.0.1 . 6 . 80": "goto spread-2"}, "the cluster IP has a policy of its own"


def test_source_ranges_guard_load_balancers_only_and_do_not_overlap() -> None:
    ranges = ("10.0.0.0/8", "10.1.0.0/16", "192.0.2.7/32")
    found = elements(route(load_balancer_ips=("192.0.2.1",), external_ips=("192.0.2.2",), allowed_sources=ranges))
    assert found["restricted"] == {"192.0.2.1 . 6 . 80": ""}
    assert set(found["allowed-sources"]) == {"192.0.2.1 . 6 . 80 . 10.0.0.0/8", "192.0.2.1 . 6 . 80 . 192.0.2.7"}
    empty = elements(route(endpoints=0, load_balancer_ips=("192.0.2.1",), allowed_sources=ranges))
    assert empty["restricted"] == found["restricted"], "outsiders are dropped, and who may come is refused"
    assert empty["refused"]["192.0.2.1 . 6 . 80"] == "goto refuse"
    open_to_all = elements(route(load_balancer_ips=("192.0.2.1",), allowed_sources=("0.0.0.0/0",)))
    assert "restricted" not in open_to_all


def test_affinity_remembers_each_endpoint_for_the_time_of_the_service() -> None:
    found = elements(route(affinity_timeout_s=60))
    assert found["services"] == {"10.96.0.1 . 6 . 80": "goto sticky-2"}
    (identity,) = found["identities"].values()
    assert found["sticky"] == {f"{identity} . 10.244.1.{n} . 8080": "jump remember-60" for n in (1, 2)}
    chains = whole_table(rendered(route(affinity_timeout_s=60)), SETTINGS, 4).chains
    assert any("timeout 60s" in rule.text for rule in chains["remember-60"].rules)


def test_an_ipv6_client_is_remembered_where_the_endpoint_has_the_usual_port() -> None:
    """Another usual port is another identity: no client is led to an old address and a new port."""
    ports = (8080, 8081, 8081)
    every = tuple(Endpoint(f"fd01::{n}", port, local=False) for n, port in enumerate(ports))
    six = replace(route(affinity_timeout_s=60), family=6, cluster_ip="fd00::1", endpoints=every)

    def sticky(one: ServiceRoute) -> tuple[str, dict[str, str], dict[str, str]]:
        held = whole_table(render_parts((one,), 6, {}), SETTINGS, 6).elements
        return held["identities"]["fd00::1 . 6 . 80"], dict(held["sticky"]), dict(held["sticky-ports"])

    identity, clients, found = sticky(six)
    assert found == {identity: "8081"}
    assert set(clients) == {f"{identity} . fd01::{n} . 8081" for n in (1, 2)}
    assert valid_clients(render_parts((six,), 6, {}).values(), 6) == {f"{identity} . fd01::{n}" for n in (1, 2)}
    assert sticky(replace(six, endpoints=six.endpoints[:1]))[0] != identity


def test_endpoints_keep_their_numbers() -> None:
    assert place({}, ["a", "b"]) == ["a", "b"]
    assert place({0: "a", 1: "b", 2: "c"}, ["b", "c"]) == ["c", "b"], "the last one takes the place of the leaver"
    assert place({0: "a", 1: "b"}, ["a", "b", "c"]) == ["a", "b", "c"]
    assert place({0: "a", 1: "b"}, ["c", "b"]) == ["c", "b"]


def test_a_change_touches_what_changed_and_nothing_else() -> None:
    routes = [route(number) for number in range(1, 100)]
    held = Held(tuple(routes), rendered(*routes))
    kept = dict(held.parts)
    routes[7] = route(8, endpoints=3)
    step = held.step_to(tuple(routes), 4)
    text = step.change.text
    assert text.splitlines() == [
        "add chain ip longshore-proxy spread-3",
        *(line for line in text.splitlines() if line.startswith("add rule ip longshore-proxy spread-3 ")),
        "delete element ip longshore-proxy services { 10.96.0.8 . 6 . 80 }",
        "add element ip longshore-proxy services { 10.96.0.8 . 6 . 80 : goto spread-3 }",
        "add element ip longshore-proxy endpoints-tcp { 10.96.0.8 . 80 . 2 : 10.244.8.3 . 8080 }",
        "add element ip longshore-proxy hairpin { 10.244.8.3 . 10.244.8.3 }",
    ]
    held.take(step)
    assert held.counts == counts_of(held.parts.values())
    assert sum(held.parts[name] is not part for name, part in kept.items()) == 1


def random_route(rng: random.Random) -> ServiceRoute:
    number = rng.randrange(1, 9)
    many = rng.choice((0, 1, 2, 3, 5))
    picked = sorted(rng.sample(range(1, 8), many))
    every = tuple(Endpoint(f"10.244.0.{n}", 8080, rng.random() < 0.4) for n in picked)
    return replace(
        route(number),
        endpoints=every,
        local_endpoints=tuple(endpoint for endpoint in every if endpoint.local),
        affinity_timeout_s=rng.choice((None, None, 10, 60)),
        internal_local=rng.random() < 0.2,
        external_local=rng.random() < 0.5,
        node_port=rng.choice((0, 30000 + number)),
        load_balancer_ips=rng.choice(((), (f"192.0.2.{number}",))),
        allowed_sources=rng.choice(((), ("10.0.0.0/8", "172.16.0.0/12"))),
    )


@pytest.mark.parametrize("seed", range(20))
def test_any_sequence_of_changes_leads_where_a_table_from_scratch_leads(seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 - the same sequence each time
    kernel: Table = EMPTY
    held = Held((), {})
    wanted = whole_table(held.parts, SETTINGS, 4)
    kernel = commit(kernel, table_difference(kernel, wanted, 4).text)
    assert kernel == wanted
    routes: dict[PortName, ServiceRoute] = {}
    for _ in range(40):
        for one in [random_route(rng) for _ in range(rng.randrange(1, 4))]:
            routes[one.name] = one
        for name in rng.sample(sorted(routes), rng.randrange(0, 2)):
            del routes[name]
        if rng.random() < 0.2:  # the same in new objects, as after a change of the node
            routes = {name: replace(each) for name, each in routes.items()}
        six = replace(route(number := rng.randrange(1, 9)), family=6, cluster_ip=f"fd00::{number}")
        every = tuple(sorted((*routes.values(), six), key=lambda each: (each.name, each.family)))
        if rng.random() < 0.2:  # started again: only the kernel knows
            held = Held(every, render_parts(every, 4, {}, table_orders(kernel)))
            text = table_difference(kernel, whole_table(held.parts, SETTINGS, 4), 4).text
        else:
            step = held.step_to(every, 4)
            text = step.change.text
            if rng.random() < 0.2:
                held.step_to(every[:1], 4)  # a step that is not taken leaves no trace
            held.take(step)
        kernel = commit(kernel, text)
        assert kernel == whole_table(held.parts, SETTINGS, 4)
        scratch = render_parts(every, 4, {}, table_orders(kernel))
        assert kernel == whole_table(scratch, SETTINGS, 4)
        assert held.counts == counts_of(held.parts.values())


def test_foreign_changes_are_found_and_undone() -> None:
    wanted = whole_table(rendered(route()), SETTINGS, 4)
    assert table_difference(wanted, wanted, 4).text == ""
    held = {name: dict(each) for name, each in wanted.elements.items()}
    del held["services"]["10.96.0.1 . 6 . 80"]
    held["endpoints-tcp"]["10.96.0.1 . 80 . 0"] = "10.9.9.9 . 1"
    chains = {name: chain for name, chain in wanted.chains.items() if name != "spread-2"}
    chains["services"] = replace(chains["services"], rules=chains["services"].rules[1:])
    damaged = Table(wanted.schema, chains, held)
    assert commit(damaged, table_difference(damaged, wanted, 4).text) == wanted
    other = Table("00000000", wanted.chains, wanted.elements)
    assert commit(other, table_difference(other, wanted, 4).text) == wanted


def test_every_address_of_a_service_has_one_identity_for_each_policy() -> None:
    found = elements(route(local=1, affinity_timeout_s=60, node_port=30080, external_ips=("192.0.2.1",)))
    assert set(found["identities"].values()) == set(found["node-identities"].values())
    local = elements(route(local=1, affinity_timeout_s=60, node_port=30080, external_local=True))
    (anywhere,), (here,) = local["identities"].values(), local["node-local-identities"].values()
    assert anywhere != here
    assert [key for key in local["sticky"] if key.startswith(here)] == [f"{here} . 10.244.1.1 . 8080"]


def test_two_services_never_share_an_identity() -> None:
    class Owned(Identifiers):
        """Somebody else has every identity that is free at first."""

        def __init__(self) -> None:
            super().__init__()
            self._owners = dict.fromkeys(Identifiers().of(route()), PortName("other", "one", "", "TCP"))

    taken = Identifiers().of(route())
    assert Owned().of(route()) != taken
    assert set(Owned().of(route())).isdisjoint(taken)
    assert Identifiers().of(route()) == taken, "the same after a restart"


def test_only_clients_of_leavers_are_forgotten() -> None:
    parts = rendered(route(affinity_timeout_s=60))
    valid = {e.key for part in parts.values() for e in part.elements if e.set == STICKY}
    identity = parts[route().name].identities[0]
    stays, goes = f"10.1.1.1 . {identity}", f"10.1.1.2 . {identity}"
    text = stale_clients({stays: "10.244.1.1 . 8080", goes: "10.244.1.9 . 8080"}, valid, 4)
    assert goes in text
    assert stays not in text
    assert stale_clients({stays: "10.244.1.1 . 8080"}, valid, 4) == ""


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        (TrafficSettings(), None),
        (TrafficSettings(cluster_cidrs=("10.244.0.0/16",)), "ip saddr 10.244.0.0/16"),
        (TrafficSettings(cluster_cidrs=("0.0.0.0/0",)), ""),
        (TrafficSettings(pod_bridge="cni0"), 'iifname "cni0"'),
        (TrafficSettings(pod_interface_prefix="veth"), 'iifname "veth*"'),
    ],
)
def test_how_pods_are_told(settings: TrafficSettings, match: str | None) -> None:
    assert pod_match(settings, 4) == match
