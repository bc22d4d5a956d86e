"""The search for refused routes, against a kernel that refuses some of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.iptables.diff import diff
from proxy.iptables.frame import RenderConfig
from proxy.iptables.held import held_routes
from proxy.iptables.model import EMPTY
from proxy.iptables.render import Renderer, render
from proxy.isolate import Search
from proxy.routes import Endpoint, PortName, ServiceRoute


def make(number: int, ip: str = "10.0.0.1") -> ServiceRoute:
    return ServiceRoute(
        name=PortName("a", f"s{number}", "", "TCP"), family=4, cluster_ip=f"10.96.0.{number + 1}", port=80,
        node_port=30000 + number, affinity_timeout_s=None, endpoints=(Endpoint(ip, 80, False),) if ip else (),
        local_endpoints=(), internal_local=False, external_local=False,
    )  # fmt: skip


@given(st.integers(0, 40), st.sets(st.integers(0, 39), max_size=12))
def test_exactly_the_refused_ones_are_left_out(count: int, bad: set[int]) -> None:
    routes = [make(number) for number in range(count)]
    refused = {routes[number] for number in bad if number < count}
    search = Search((), routes)
    writes = 0
    while (part := search.next_part()) is not None:
        writes += 1
        if refused.intersection(part):
            search.refuse("no")
        else:
            search.accept()
    assert set(search.refused) == refused
    assert search.accepted == set(routes) - refused
    assert writes <= 1 + 12 * max(1, len(refused))


def test_a_thousand_bad_ones_do_not_take_a_thousand_writes() -> None:
    search = Search((), [make(number) for number in range(250)])
    writes = 0
    while search.next_part() is not None:
        writes += 1
        search.refuse("no")
    assert len(search.refused) == 250
    assert writes < 150
    assert any("together with" in cause for cause in search.refused.values())


def test_what_the_kernel_holds_is_not_suspected() -> None:
    config = RenderConfig()
    same, moved, new, empty = make(0), make(1), make(2), make(3, ip="")
    kernel = render([same, make(1, "10.0.0.9"), empty], config)
    assert diff(EMPTY, kernel).text
    each = Renderer(config, 4).render_each([same, moved, new, empty, make(4, ip="")])
    assert held_routes(each, kernel) == (same, empty)
