"""What happens to this node, in the words of the kubelet's events.

Pure.  Before: `node_keeper` has the Node as it was, and what it has just written.  Next: `events`.  Source: kubelet's
events package of 1.36 and nodestatus.
"""

from __future__ import annotations

from collections.abc import Iterator

from agent.cluster.conditions import READY
from agent.cluster.node_object import Json, NodeView
from agent.cluster.pressure import DISK, MEMORY, PIDS
from agent.pods.happenings import Happening

STARTING = Happening("Starting", "Starting kubelet.")
_REASONS = {
    READY: ("NodeNotReady", "NodeReady"),
    MEMORY: ("NodeHasSufficientMemory", "NodeHasInsufficientMemory"),
    DISK: ("NodeHasNoDiskPressure", "NodeHasDiskPressure"),
    PIDS: ("NodeHasSufficientPID", "NodeHasInsufficientPID"),
}


def happenings(before: Json | None, view: NodeView) -> tuple[Happening, ...]:
    """What is new of `view` since the Node `before`; None where there was none."""
    return tuple(_happenings((before or {}).get("status") or {}, view))


def scheduling(view: NodeView, *, cordoned: bool) -> Happening:
    """Somebody has cordoned the node, or let pods come again."""
    return _status(view, "NodeNotSchedulable" if cordoned else "NodeSchedulable")


def _happenings(status: Json, view: NodeView) -> Iterator[Happening]:
    boot_id, known = view.identity.boot_id, (status.get("nodeInfo") or {}).get("bootID")
    if known and known != boot_id:
        text = f"Node {view.facts.node_name} has been rebooted, boot id: {boot_id}"
        yield Happening("Rebooted", text, warning=True)
    states = {one.get("type"): one.get("status") for one in status.get("conditions") or ()}
    for condition in view.conditions:
        if states.get(condition.type) != ("True" if condition.status else "False"):
            yield _status(view, _REASONS[condition.type][condition.status])


def _status(view: NodeView, reason: str) -> Happening:
    return Happening(reason, f"Node {view.facts.node_name} status is now: {reason}")
