"""How this machine's etcd comes to the members of a cluster's, and leaves them; `longshore control-plane etcd members`
and `remove-member`.  I/O: gRPC to etcd, the API server.

Before: `cli.up.bring_up` has certificates and kubeconfigs, and the agent runs; or `longshore down` begins.  Next: the
manifest of etcd comes or goes.  Every step may be cut off and done again: what etcd itself says is where the next run
goes on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import TypeVar
from urllib.parse import urlsplit

import click

from cli import api
from cli.cluster import Cluster, ClusterOptions, pass_options, shows_failures
from cli.failure import NOT_FOUND, UNREACHABLE, Failure
from cli.output import format_option, print_table, print_value
from control_plane.errors import ControlPlaneError
from control_plane.etcd_cluster import Member, cluster_peers, initial_cluster, own_member, quorum_problem
from control_plane.etcd_members import EtcdMembers, answers, first_answer
from control_plane.settings import ETCD, ETCD_CLIENT_PORT, JOINING, url

T = TypeVar("T")
_EVERY_S = 1.0
_PODS = f"/api/v1/namespaces/kube-system/pods?labelSelector=component%3D{ETCD}"
_CLIENTS = "kubeadm.kubernetes.io/etcd.advertise-client-urls"
HEADER = ("ID", "NAME", "PEER", "STATE")


@click.command()
@format_option("table", "json", "yaml")
@pass_options
@shows_failures
def members(options: ClusterOptions, output: str) -> None:
    """Show who the members of etcd are: leader, follower, learner (which has no vote yet), not started, or
    away.
    """
    cluster = options.open()
    rows = [_row(cluster, one) for one in _found(cluster)]
    if output == "table":
        print_table(HEADER, rows)
    else:
        print_value([dict(zip(("id", "name", "peer", "state"), row, strict=True)) for row in rows], output)


@click.command("remove-member")
@click.argument("member")
@pass_options
@shows_failures
def remove_member(options: ClusterOptions, member: str) -> None:
    """Take MEMBER out of etcd, whose machine does not come back; its ID or NAME is as `etcd members` has it.

    Refused where it works (longshore down takes it out there), and where the others were too few to agree without it.
    """
    cluster = options.open()
    found = _found(cluster)
    gone = next((one for one in found if member in (f"{one.identifier:x}", one.name or None)), None)
    if gone is None:
        known = ", ".join(one.name or f"{one.identifier:x}" for one in found)
        raise Failure(f"cannot remove {member}: etcd has no such member; it has {known}", NOT_FOUND)
    if gone == own_member(found, cluster.settings.etcd_peer) or gone.identifier in _working(cluster, [gone]):
        raise Failure(f"cannot remove {member}: it works; longshore down on its machine takes it out of etcd")
    _take_out(cluster, found, gone)
    click.echo(f"removed {member}; its Node is deleted with kubectl")


def announce(cluster: Cluster, deadline_s: float) -> Cluster:
    """Have etcd know this machine as a learner, before etcd starts here; the settings to start it with.

    A member of this address that had data, and has none any more, is replaced: etcd must never see it without them.
    Raises Failure.
    """
    peer, name = cluster.settings.etcd_peer, cluster.settings.node_name
    servers = _others(cluster)

    def add(etcd: EtcdMembers) -> tuple[Member, ...]:
        found = etcd.members()
        own = own_member(found, peer)
        if own is not None and own.name:
            etcd.remove(own)
            own = None
        if own is None and (first := next((one for one in found if one.learner and peer not in one.peers), None)):
            fix = f"if it never will: longshore control-plane etcd remove-member {first.identifier:x}"
            raise ControlPlaneError(f"{first.peers[0]} joins first; {fix}")
        return found if own is not None else etcd.add_learner(peer)

    found = _until("etcd to take this machine", lambda: _ask(cluster, add, servers), deadline_s)
    cluster = cluster.with_settings(etcd_cluster=initial_cluster(found, peer, name))
    cluster.remember()
    return cluster


def promote(cluster: Cluster, deadline_s: float) -> None:
    """Have this machine's etcd vote, as soon as it has what the others have.  Raises Failure."""
    servers, peer = _others(cluster), cluster.settings.etcd_peer

    def ask(etcd: EtcdMembers) -> tuple[Member, ...]:
        found = etcd.members()
        own = own_member(found, peer)
        if own is None:
            raise ControlPlaneError(f"it has no member at {peer}; longshore down, and join again")
        return etcd.promote(own) if own.learner else found

    _until("etcd to let this machine vote", lambda: _ask(cluster, ask, servers), deadline_s)


def leave(cluster: Cluster, *, only_look: bool = False) -> str:
    """Take this machine's member out of etcd, unless it is the only one; what a person should know, or "".

    Raises ControlPlaneError where the others could not work without it.
    """
    peer = cluster.settings.etcd_peer
    try:
        found = _known(cluster, _near(cluster))
    except ControlPlaneError as error:
        fix = "longshore control-plane etcd remove-member on another control plane does it"
        return f"its member of etcd was not removed ({error}); {fix}" if cluster.settings.etcd_cluster else ""
    own = own_member(found, peer)
    if own is not None and len(found) > 1:
        _take_out(cluster, found, own, only_look=only_look)
    return ""


def is_shared(cluster: Cluster) -> bool:
    """Whether others have joined the etcd of this machine, as it says itself or has said before: that is remembered."""
    try:
        started = [one for one in _known(cluster, _own_client(cluster)) if one.name]
    except ControlPlaneError:
        started = []
    return len(started) > 1 or cluster.settings.etcd_shared


def working_others(cluster: Cluster) -> list[str]:
    """Members of etcd on other machines that answer, as far as anybody knows of them: the etcd of this machine, what it
    remembers, or, where it was the first and has lost its data, another API server behind the endpoint.
    """
    try:
        found = _known(cluster, _near(cluster))
    except ControlPlaneError:
        try:
            found = _known(cluster, _told_by_pods(cluster))
        except (ControlPlaneError, Failure):
            return []
    own = own_member(found, cluster.settings.etcd_peer)
    working = _working(cluster, [one for one in found if one != own])
    return [one.name for one in found if one.identifier in working]


def _take_out(cluster: Cluster, found: Sequence[Member], gone: Member, *, only_look: bool = False) -> None:
    """Raises ControlPlaneError where the others could not work without it."""
    working = _working(cluster, [one for one in found if one != gone])
    if problem := quorum_problem(found, gone, working):
        raise ControlPlaneError(f"cannot take {gone.name or f'{gone.identifier:x}'} out of etcd: {problem}")
    if not only_look:
        clients = [one.clients[0] for one in found if one.identifier in working] or _own_client(cluster)
        _ask(cluster, lambda etcd: etcd.remove(gone), clients)


def _found(cluster: Cluster) -> tuple[Member, ...]:
    """All; where they do not agree on anything, as too few of them work, those that this machine's knows of.  Raises
    ControlPlaneError.
    """
    try:
        return _ask(cluster, lambda etcd: etcd.members(), _near(cluster))
    except ControlPlaneError:
        return _known(cluster, _near(cluster))


def _known(cluster: Cluster, servers: list[str]) -> tuple[Member, ...]:
    """Those that the first of these which answers knows of, whether the others agree or not.  Raises
    ControlPlaneError.
    """
    return _ask(cluster, lambda etcd: etcd.members(agreed=False), servers)


def _near(cluster: Cluster) -> list[str]:
    """Where etcd serves clients as this machine itself knows: here, and at the others that it remembers."""
    return [*_own_client(cluster), *_peers_clients(cluster)]


def _working(cluster: Cluster, members: Sequence[Member]) -> set[int]:
    """The identifiers of those that answer and know a leader."""
    return {one.identifier for one in members if one.clients and answers(one.clients[0], cluster.places.pki)}


def _row(cluster: Cluster, one: Member) -> tuple[str, ...]:
    state = "not started" if not one.name else "learner" if one.learner else "away"
    if one.clients and not one.learner:
        try:
            leader = first_answer(one.clients, cluster.places.pki, EtcdMembers.leader)
            state = "leader" if leader == one.identifier else "follower" if leader else "away"
        except ControlPlaneError:
            pass
    return (f"{one.identifier:x}", one.name, ",".join(one.peers), state)


def _ask(cluster: Cluster, what: Callable[[EtcdMembers], T], servers: Sequence[str]) -> T:
    """Of the first that answers.  Raises ControlPlaneError."""
    found: T = first_answer(servers, cluster.places.pki, what)
    return found


def _own_client(cluster: Cluster) -> list[str]:
    return [url("https", cluster.settings.loopback, ETCD_CLIENT_PORT)]


def _others(cluster: Cluster) -> list[str]:
    """Where other members serve clients: as this machine remembers, else as their pods say.  Raises Failure."""
    if servers := _peers_clients(cluster) or _told_by_pods(cluster):
        return servers
    raise Failure("cannot find etcd: the API server knows no pod of it in kube-system", UNREACHABLE)


def _told_by_pods(cluster: Cluster) -> list[str]:
    """Where the others serve clients, as the API server has it.  Raises Failure."""
    pods = json.loads(api.get(api.access(cluster.places.kubeconfig("admin")), _PODS)).get("items") or ()
    found = [(pod["metadata"].get("annotations") or {}).get(_CLIENTS, "") for pod in pods]
    own = url("https", cluster.settings.advertise_address, ETCD_CLIENT_PORT)
    return [one for one in found if one and one != own]


def _peers_clients(cluster: Cluster) -> list[str]:
    initial = cluster.settings.etcd_cluster
    peers = cluster_peers(initial) if initial != JOINING else ()
    hosts = [urlsplit(one).hostname or "" for one in peers if one != cluster.settings.etcd_peer]
    return [url("https", host, ETCD_CLIENT_PORT) for host in hosts]


def _until(what: str, action: Callable[[], T], deadline_s: float) -> T:
    """What it gives once etcd does not refuse.  Raises Failure."""
    said = ""
    while True:
        try:
            return action()
        except ControlPlaneError as error:
            if str(error) != said:
                said = str(error)
                click.echo(f"waiting for {what}: {said}")
        if time.monotonic() > deadline_s:
            raise Failure(f"cannot wait for {what} any longer: {said}; see longshore pods", UNREACHABLE)
        time.sleep(_EVERY_S)
