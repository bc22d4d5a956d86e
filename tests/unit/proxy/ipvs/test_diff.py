"""Steps between two states: their order, draining, and that they lead where they should."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.ipvs.diff import AddressStep, EntryStep, ServerStep, TargetStep, after, diff, draining, is_excluded
from proxy.ipvs.model import ServerKey, State, Target, VirtualServer

KEY, OTHER = ServerKey("TCP", "10.96.0.1", 80), ServerKey("UDP", "10.96.0.2", 53)
ONE, TWO = Target("10.244.0.1", 8080), Target("10.244.0.2", 8080)
SETS = {"KUBE-CLUSTER-IP": frozenset({"10.96.0.1,tcp:80"}), "KUBE-IPVS-IPS": frozenset({"10.96.0.1"})}
EMPTY_SETS = {name: frozenset[str]() for name in SETS}


def server(*targets: Target, scheduler: str = "rr", affinity_s: int = 0, only_to_drain: bool = False) -> VirtualServer:
    return VirtualServer(scheduler, affinity_s, dict.fromkeys(targets, 1), only_to_drain)


def test_traffic_is_let_in_from_behind_and_shut_out_from_the_front() -> None:
    wanted = State({KEY: server(ONE)}, frozenset({KEY.ip}), SETS)
    empty = State({}, frozenset(), EMPTY_SETS)
    assert diff(empty, wanted, {}) == (
        EntryStep("add", "KUBE-CLUSTER-IP", "10.96.0.1,tcp:80"),
        EntryStep("add", "KUBE-IPVS-IPS", "10.96.0.1"),
        ServerStep("add", KEY, "rr", 0),
        TargetStep("add", KEY, ONE, 1),
        AddressStep("add", KEY.ip),
    )
    assert diff(wanted, empty, {}) == (
        AddressStep("del", KEY.ip),
        ServerStep("del", KEY),
        EntryStep("del", "KUBE-IPVS-IPS", "10.96.0.1"),
        EntryStep("del", "KUBE-CLUSTER-IP", "10.96.0.1,tcp:80"),
    )


def test_a_new_target_comes_before_the_old_one_goes() -> None:
    steps = diff(State({KEY: server(ONE)}), State({KEY: server(TWO)}), {})
    assert steps == (TargetStep("add", KEY, TWO, 1), TargetStep("del", KEY, ONE))


def test_only_tcp_drains() -> None:
    for key in (KEY, OTHER):
        kernel, wanted = State({key: server(ONE, TWO)}), State({key: server(TWO)})
        steps = diff(kernel, wanted, {(key, ONE): 3})
        drains = key.protocol == "TCP"
        assert steps == ((TargetStep("set", key, ONE, 0),) if drains else (TargetStep("del", key, ONE),))
        held = after(kernel, steps, wanted)
        assert draining(held, wanted) == ({(key, ONE)} if drains else set())
        assert diff(held, wanted, {(key, ONE): 1}) == ()
        assert diff(held, wanted, {(key, ONE): 0}) == ((TargetStep("del", key, ONE),) if drains else ())


def test_a_server_wanted_for_its_connections_only_goes_with_the_last() -> None:
    wanted = State({KEY: server(only_to_drain=True)})
    assert diff(State(), wanted, {}) == ()
    kernel = State({KEY: server(ONE)})
    steps = diff(kernel, wanted, {(KEY, ONE): 1})
    assert steps == (TargetStep("set", KEY, ONE, 0),)
    assert diff(after(kernel, steps, wanted), wanted, {}) == (ServerStep("del", KEY),)


def test_scheduler_and_affinity_change_in_place() -> None:
    steps = diff(State({KEY: server(ONE)}), State({KEY: server(ONE, scheduler="sh", affinity_s=5)}), {})
    assert steps == (ServerStep("set", KEY, "sh", 5),)


def test_what_is_excluded_is_left_alone() -> None:
    theirs = ServerKey("TCP", "192.168.1.1", 443)
    kernel = State({KEY: server(ONE), theirs: server(TWO)})
    assert diff(kernel, State(), {}, is_excluded(("192.168.1.0/24", "fd00::/8"))) == (ServerStep("del", KEY),)


_targets = st.dictionaries(st.sampled_from([ONE, TWO, Target("10.244.0.3", 1)]), st.sampled_from([0, 1]))
_servers = st.builds(VirtualServer, st.sampled_from(["rr", "sh"]), st.sampled_from([0, 9]), _targets, st.booleans())
_states = st.builds(
    State,
    st.dictionaries(st.sampled_from([KEY, OTHER, ServerKey("TCP", "fd00::1", 80)]), _servers),
    st.frozensets(st.sampled_from(["10.96.0.1", "fd00::1"])),
    st.fixed_dictionaries({name: st.frozensets(st.sampled_from(["a", "b"])) for name in SETS}),
)
_connections = st.dictionaries(st.tuples(st.sampled_from([KEY, OTHER]), st.sampled_from([ONE, TWO])), st.just(1))


@given(_states, _states, st.integers(0, 30))
def test_a_kill_between_two_steps_leaves_what_the_next_start_finishes(kernel: State, wanted: State, done: int) -> None:
    left = after(kernel, diff(kernel, wanted, {})[:done], wanted)
    finished = after(left, diff(left, wanted, {}), wanted)
    assert diff(finished, wanted, {}) == ()
    assert (finished.vips, finished.sets) == (wanted.vips, wanted.sets)


@given(_states, _states, _connections)
def test_steps_lead_to_what_is_wanted(
    kernel: State, wanted: State, connections: dict[tuple[ServerKey, Target], int]
) -> None:
    steps = diff(kernel, wanted, connections)
    held = after(kernel, steps, wanted)
    assert diff(held, wanted, connections) == ()
    rested = after(held, diff(held, wanted, {}), wanted)
    assert diff(rested, wanted, {}) == ()
    assert (rested.vips, rested.sets) == (wanted.vips, wanted.sets)
    for key, one in wanted.servers.items():
        if not one.only_to_drain:
            assert rested.servers[key] is one
    assert rested.servers.keys() <= wanted.servers.keys()
