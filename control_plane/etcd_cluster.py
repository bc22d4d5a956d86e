"""How a control plane comes to etcd's members and leaves them.  Pure.

Before: `etcd_members` has listed them.  Next: `cli.join_control_plane` and `cli.leave_etcd` act.  A member comes as a
learner, which has no vote, so that one that never starts costs no quorum.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Member:
    """`name` and `clients` are empty until it has started; a learner has no vote."""

    identifier: int
    name: str
    peers: tuple[str, ...]
    clients: tuple[str, ...]
    learner: bool


def own_member(members: Sequence[Member], peer: str) -> Member | None:
    """The one that is reached at this URL."""
    return next((one for one in members if peer in one.peers), None)


def initial_cluster(members: Sequence[Member], peer: str, name: str) -> str:
    """As in --initial-cluster of the member `name` at `peer`, which has not started.  Those that have not either are
    called by their identifiers, as nobody knows their names; etcd compares the URLs.
    """
    found = []
    for one in members:
        called = name if peer in one.peers else one.name or f"{one.identifier:x}"
        found += [f"{called}={at}" for at in one.peers]
    return ",".join(found)


def cluster_peers(initial: str) -> tuple[str, ...]:
    """The URLs in a value of --initial-cluster."""
    return tuple(part.partition("=")[2] for part in initial.split(",") if part)


def quorum_problem(members: Sequence[Member], own: Member, working: Collection[int]) -> str:
    """Why etcd could not work without `own`, "" where it could.  `working`: identifiers of members that answer."""
    others = [one for one in members if not one.learner and one.identifier != own.identifier]
    if own.learner or not others:
        return ""
    down = [one.name or f"{one.identifier:x}" for one in others if one.identifier not in working]
    needed = len(others) // 2 + 1
    if len(others) - len(down) >= needed:
        return ""
    lost = f"{', '.join(down)} {'does' if len(down) == 1 else 'do'} not"
    return f"etcd would lose its quorum: of its {len(others)} other members {needed} must work, and {lost}"
