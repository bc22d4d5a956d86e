"""Long sequences of changes, foreign edits, restarts: after each, the kernel holds what a fresh render would write."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from proxy.backend import Backend
from proxy.routes import Endpoint, PortName, RoutingTable, ServiceRoute, TrafficSettings
from tests.kernel.conftest import Proxy
from tests.kernel.netlab import Node

_STEPS = 25
SETTINGS = TrafficSettings(cluster_cidrs=("10.244.0.0/16", "fd00:244::/64"))


def random_endpoints(dice: random.Random, pods: str) -> tuple[Endpoint, ...]:
    numbers = dice.sample(range(1, 9), dice.randrange(5))
    return tuple(sorted(Endpoint(f"{pods}{n}", 8080, dice.random() < 0.5) for n in numbers))


def random_route(dice: random.Random, number: int, family: int) -> ServiceRoute:
    net = "10.96.0." if family == 4 else "fd00:96::"
    out = "203.0.113." if family == 4 else "2001:db8::"
    pods = "10.244.0." if family == 4 else "fd00:244::"
    endpoints = random_endpoints(dice, pods)
    balancers = (f"{out}{number}",) if dice.random() < 0.4 else ()
    mask = 32 if family == 4 else 128
    return ServiceRoute(
        name=PortName("default", f"s{number}", dice.choice(("", "http")), dice.choice(("TCP", "UDP", "SCTP"))),
        family=family,
        cluster_ip=f"{net}{number}",
        port=80,
        node_port=30000 + number if dice.random() < 0.5 else 0,
        affinity_timeout_s=dice.choice((None, None, 60)),
        endpoints=endpoints,
        local_endpoints=tuple(endpoint for endpoint in endpoints if endpoint.local),
        internal_local=dice.random() < 0.3,
        external_local=dice.random() < 0.5,
        external_ips=(f"{out}{100 + number}",) if dice.random() < 0.3 else (),
        load_balancer_ips=balancers,
        allowed_sources=(f"{pods}77/{mask}",) if balancers and dice.random() < 0.5 else (),
        health_check_node_port=31000 + number if dice.random() < 0.2 else 0,
    )


def changed(dice: random.Random, routes: dict[tuple[int, int], ServiceRoute]) -> None:
    """Some services come, go and change."""
    for _ in range(dice.randrange(1, 4)):
        key = (dice.randrange(1, 12), dice.choice((4, 6)))
        if key in routes and dice.random() < 0.4:  # what happens most: nothing but its endpoints is different
            some = random_endpoints(dice, "10.244.0." if key[1] == 4 else "fd00:244::")
            routes[key] = replace(routes[key], endpoints=some, local_endpoints=tuple(e for e in some if e.local))
        elif dice.random() < 0.3:
            routes.pop(key, None)
        else:
            routes[key] = random_route(dice, *key)


def edited_by_somebody(dice: random.Random, node: Node) -> None:
    program = f"{dice.choice(('iptables', 'ip6tables'))}-{node.variant}"
    table, chain = dice.choice(
        (("nat", "KUBE-SERVICES"), ("nat", "KUBE-POSTROUTING"), ("nat", "PREROUTING"), ("filter", "KUBE-FORWARD"))
    )
    node.program(f"{program} -w -t {table} {dice.choice(('-F', '-Z'))} {chain}")


@pytest.mark.parametrize("seed", range(3))
async def test_the_kernel_always_ends_where_a_fresh_render_ends(node: Node, proxy: Proxy, seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311 - a test that can be repeated
    routes: dict[tuple[int, int], ServiceRoute] = {}

    def fresh() -> Backend:
        return proxy.start((4, 6), SETTINGS)

    backend = fresh()
    for step in range(_STEPS):
        changed(dice, routes)
        wanted = RoutingTable(tuple(sorted(routes.values(), key=lambda each: (each.name, each.family))))
        what = dice.choice(("change", "change", "change", "foreign edit", "restart"))
        if what == "foreign edit" and step:
            edited_by_somebody(dice, node)
            await backend.resync()
        elif what == "restart":
            backend = fresh()
        report = await backend.apply(wanted)
        assert report.refused == (), f"seed {seed}, step {step}, {what}"
        check = await fresh().apply(wanted)
        assert check.changed_chains == 0, f"seed {seed}, step {step}, {what}: {check}"
    await backend.cleanup()
    assert "KUBE" not in node.save() + node.save(6)
