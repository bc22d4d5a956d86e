"""How etcd's members come and go, cut off anywhere; with real members: tests/cluster/test_etcd_members.py."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import cli.etcd_members as module
from cli import api
from cli.cluster import Cluster, open_cluster
from cli.failure import Failure
from cli.target import Target
from cli.up import has_others, refuse_second_cluster
from control_plane.errors import ControlPlaneError
from control_plane.etcd_cluster import Member
from control_plane.etcd_members import EtcdRefusedError
from control_plane.settings import JOINING, Places
from tests.unit.cli.conftest import Node

PEERS = {f"plane-{number}": f"https://192.0.2.{number}:2380" for number in (1, 2, 3)}
CLUSTER = ",".join(f"{name}={peer}" for name, peer in PEERS.items())


def member(name: str, *, learner: bool = False, started: bool = True) -> Member:
    number = int(name[-1])
    clients = (f"https://192.0.2.{number}:2379",) if started else ()
    return Member(number, name if started else "", (PEERS[name],), clients, learner)


@dataclass
class Etcd:
    """All members as one, which does what it is told; `refusals` are said first."""

    found: list[Member]
    refusals: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)

    def members(self, *, agreed: bool = True) -> tuple[Member, ...]:
        return tuple(self.found)

    def add_learner(self, peer: str) -> tuple[Member, ...]:
        self._may("add")
        self.found.append(Member(9, "", (peer,), (), learner=True))
        return tuple(self.found)

    def promote(self, one: Member) -> tuple[Member, ...]:
        self._may("promote")
        self.found = [dataclasses.replace(each, learner=False) if each == one else each for each in self.found]
        return tuple(self.found)

    def remove(self, one: Member) -> tuple[Member, ...]:
        self._may(f"remove {one.name}")
        self.found.remove(one)
        return tuple(self.found)

    def _may(self, what: str) -> None:
        if self.refusals:
            raise EtcdRefusedError(self.refusals.pop(0))
        self.done.append(what)


@pytest.fixture
def etcd(monkeypatch: pytest.MonkeyPatch) -> Etcd:
    made = Etcd([member("plane-1"), member("plane-2")])

    def ask(servers: Sequence[str], _pki: Path, what: Callable[[Any], Any]) -> Any:
        assert servers
        return what(made)

    monkeypatch.setattr(module, "first_answer", ask)
    monkeypatch.setattr(module, "answers", lambda server, _pki: server != "https://192.0.2.2:2379")
    monkeypatch.setattr(module, "_EVERY_S", 0.0)
    return made


def plane(node: Node, etcd_cluster: str | None) -> Cluster:
    target = Target(
        root_dir=node.base, agent_socket=node.base / "a", proxy_socket=node.base / "p", manifest_dir=node.manifests
    )
    options = {"kubernetes_dir": node.base / "kubernetes", "node_name": "plane-3", "advertise_address": "192.0.2.3"}
    return open_cluster(target, {**options, "etcd_cluster": etcd_cluster})


def soon() -> float:
    return time.monotonic() + 60


def test_a_machine_comes_as_a_learner_and_then_votes(node: Node, etcd: Etcd) -> None:
    etcd.refusals = ["too many learner members in cluster"]
    cluster = module.announce(plane(node, CLUSTER), soon())
    assert cluster.settings.etcd_cluster == CLUSTER
    assert plane(node, None).settings.etcd_cluster == CLUSTER, "it is not remembered"
    etcd.refusals = ["can only promote a learner member which is in sync with leader"]
    module.promote(cluster, soon())
    module.promote(cluster, soon())
    assert etcd.done == ["add", "promote"]


def test_a_join_that_was_cut_off_is_not_announced_twice(node: Node, etcd: Etcd) -> None:
    module.announce(plane(node, CLUSTER), soon())
    module.announce(plane(node, CLUSTER), soon())
    assert etcd.done == ["add"]


def test_a_member_whose_data_are_gone_is_replaced(node: Node, etcd: Etcd) -> None:
    etcd.found.append(member("plane-3"))
    module.announce(plane(node, CLUSTER), soon())
    assert etcd.done == ["remove plane-3", "add"]


def test_what_etcd_refuses_until_the_end_is_said(node: Node, etcd: Etcd) -> None:
    etcd.refusals = ["etcdserver: unhealthy cluster"] * 3
    with pytest.raises(Failure, match="cannot wait for etcd to take this machine any longer: etcdserver: unhealthy"):
        module.announce(plane(node, CLUSTER), time.monotonic() - 1)
    with pytest.raises(Failure, match=r"no member at https://192.0.2.3:2380; longshore down, and join again"):
        module.promote(plane(node, CLUSTER), time.monotonic() - 1)


def test_one_machine_joins_after_the_other_and_the_one_that_never_will_is_named(node: Node, etcd: Etcd) -> None:
    etcd.found.append(member("plane-2", learner=True, started=False))
    with pytest.raises(Failure, match=r"https://192.0.2.2:2380 joins first; if it never will: .* remove-member 2; "):
        module.announce(plane(node, CLUSTER), time.monotonic() - 1)
    assert etcd.done == []


@pytest.mark.parametrize("name", ["plane-2", "2"])
def test_a_member_that_does_not_come_back_is_taken_out(node: Node, etcd: Etcd, name: str) -> None:
    plane(node, CLUSTER).remember()
    etcd.found.append(member("plane-3"))
    command = ("control-plane", f"--kubernetes-dir={node.base / 'kubernetes'}", "etcd", "remove-member")
    refusals = {
        "plane-4": "etcd has no such member; it has plane-1, plane-2, plane-3",
        "": "etcd has no such member",
        "plane-1": "cannot remove plane-1: it works; longshore down on its machine",
        "plane-3": "cannot remove plane-3: it works; longshore down on its machine",
    }
    for one, said in refusals.items():
        found = node.run(*command, one)
        assert said in found.output
        assert found.exit_code != 0
    etcd.found[-1] = dataclasses.replace(member("plane-3"), clients=member("plane-2").clients)
    found = node.run(*command, "plane-3")
    assert "cannot remove plane-3" in found.output, "this machine's own, whether it answers now or not"
    assert etcd.done == []
    etcd.found[-1] = member("plane-3")
    found = node.run(*command, name)
    assert (found.exit_code, etcd.done) == (0, ["remove plane-2"]), found.output


def test_a_member_is_not_taken_out_where_that_would_cost_the_quorum(node: Node, etcd: Etcd) -> None:
    plane(node, CLUSTER).remember()
    away = dataclasses.replace(member("plane-1"), identifier=7, name="plane-7", peers=("https://192.0.2.7:2380",))
    etcd.found += [member("plane-3"), dataclasses.replace(away, clients=member("plane-2").clients)]
    kubernetes = f"--kubernetes-dir={node.base / 'kubernetes'}"
    etcd.found[0] = dataclasses.replace(etcd.found[0], clients=member("plane-2").clients)
    found = node.run("control-plane", kubernetes, "etcd", "remove-member", "plane-2")
    assert "cannot take plane-2 out of etcd: etcd would lose its quorum: of its 3 other members 2" in found.output
    assert etcd.done == []


def test_it_leaves_only_where_the_others_can_work_without(node: Node, etcd: Etcd) -> None:
    etcd.found.append(member("plane-3"))
    with pytest.raises(
        ControlPlaneError, match="lose its quorum: of its 2 other members 2 must work, and plane-2 does"
    ):
        module.leave(plane(node, CLUSTER))
    assert etcd.done == []
    etcd.found[1] = dataclasses.replace(etcd.found[1], clients=("https://192.0.2.22:2379",))
    assert module.leave(plane(node, CLUSTER), only_look=True) == ""
    assert etcd.done == []
    assert module.leave(plane(node, CLUSTER)) == ""
    assert etcd.done == ["remove plane-3"]
    assert module.leave(plane(node, CLUSTER)) == "", "cut off afterwards"
    assert etcd.done == ["remove plane-3"]


def test_a_snapshot_is_not_restored_beside_members_that_work(node: Node, etcd: Etcd) -> None:
    etcd.found.append(member("plane-3"))
    assert module.working_others(plane(node, CLUSTER)) == ["plane-1"]
    etcd.found = [member("plane-3")]
    assert module.working_others(plane(node, CLUSTER)) == []


def test_the_first_that_has_lost_its_data_begins_no_second_cluster(
    node: Node, etcd: Etcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients = {
        "metadata": {"annotations": {"kubeadm.kubernetes.io/etcd.advertise-client-urls": "https://192.0.2.1:2379"}}
    }
    own = {"metadata": {"annotations": {"kubeadm.kubernetes.io/etcd.advertise-client-urls": "https://192.0.2.3:2379"}}}

    def first_answer(servers: Sequence[str], _pki: Path, what: Callable[[Any], Any]) -> Any:
        if list(servers) == ["https://192.0.2.1:2379"]:
            return what(etcd)
        raise ControlPlaneError("cannot MemberList at etcd 127.0.0.1:2379: refused")

    monkeypatch.setattr(module, "first_answer", first_answer)
    monkeypatch.setattr(api, "access", lambda path: path)
    monkeypatch.setattr(api, "get", lambda *_: json.dumps({"items": [own, clients, {"metadata": {}}]}))
    etcd.found.append(member("plane-3"))
    first = plane(node, "")
    with pytest.raises(
        Failure, match=r"cannot begin a cluster: etcd has no data here, .* work on plane-1; longshore down"
    ):
        refuse_second_cluster(first)
    assert module.working_others(first) == ["plane-1"], "a restore would make a second one, too"
    monkeypatch.setattr(api, "get", lambda *_: b'{"items": []}')
    refuse_second_cluster(first)
    refuse_second_cluster(plane(node, JOINING))


def test_that_others_have_joined_the_first_is_remembered_until_it_begins_anew(
    node: Node, etcd: Etcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = plane(node, "").with_settings(etcd_shared=True)
    assert not has_others(first), "it has no data, and is let begin"
    monkeypatch.setattr(Places, "etcd_data", node.base)
    etcd.found = [member("plane-3"), member("plane-2", learner=True, started=False)]
    assert not has_others(plane(node, ""))
    etcd.found = [member("plane-3"), member("plane-2")]
    assert has_others(plane(node, ""))
    assert not has_others(plane(node, CLUSTER)), "it has joined others itself"
    etcd.found = [member("plane-3")]
    assert has_others(first)

    def nobody(*_: Any) -> Any:
        raise ControlPlaneError("cannot MemberList at etcd 127.0.0.1:2379: refused")

    monkeypatch.setattr(module, "first_answer", nobody)
    assert has_others(first)
    first.remember()
    assert plane(node, None).settings.etcd_shared


def test_the_only_member_stays_until_its_data_go(node: Node, etcd: Etcd) -> None:
    etcd.found = [member("plane-3")]
    assert module.leave(plane(node, "")) == ""
    assert etcd.done == []


def test_where_nobody_answers_it_is_said_what_is_left(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: Any) -> Any:
        raise ControlPlaneError("cannot MemberList at etcd 192.0.2.1:2379: no route")

    monkeypatch.setattr(module, "first_answer", nobody)
    assert "no route); longshore control-plane etcd remove-member on" in module.leave(plane(node, CLUSTER))
    assert module.leave(plane(node, "")) == ""


def test_no_manifest_of_etcd_before_the_others_know(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.up.refuse_obstacles", lambda *_: None)  # those of the machine that runs the tests
    plane(node, JOINING).remember()
    kubernetes = f"--kubernetes-dir={node.base / 'kubernetes'}"
    found = node.run("control-plane", kubernetes, "manifests")
    assert (found.exit_code, "etcd has not joined the others yet" in found.output) == (1, True), found.output
    found = node.run("up", "--control-plane", kubernetes)
    assert "longshore join --control-plane was cut off" in found.output
    assert not list(node.manifests.iterdir())
