"""Two patches of a Node that is there: the one that takes it over, and the one that keeps its status true.

Pure.  Before: `own_node` has the Node, `node_look` a view of the machine.  Next: `node_keeper` sends what is not None
to the subresource status, as a strategic merge patch.  It holds only what differs; a Node to which nothing happened
is not written to.  Sources: kubelet registration and nodestatus; API conventions, "Strategic Merge Patch".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.cluster.conditions import condition_entries
from agent.cluster.node_object import (
    ATTACH_DETACH,
    HUGE_PAGES,
    PROVIDED_NODE_IP,
    Json,
    NodeView,
    addresses,
    daemon_endpoints,
    lists,
    node_annotations,
    node_info,
    node_labels,
    resources,
)
from agent.node.labels import ARCH, DEFAULT_LABELS, OS
from kube_objects.quantity import parse_quantity


def takeover_patch(node: Json, view: NodeView) -> Json | None:
    """Metadata of a Node that an earlier agent, or a kubelet, made; None where it is as it should be.

    Labels that every node has are set right, those of --node-labels beside them and taints stay as they are.
    """
    metadata = node["metadata"]
    own = {name: text for name, text in node_labels(view).items() if name in DEFAULT_LABELS}
    return _metadata(_differing(metadata.get("labels") or {}, own), _annotation_changes(metadata, view))


def status_patch(node: Json, view: NodeView, now: str, *, heartbeat: bool) -> Json | None:
    """What of the Node is not true any more; None where nothing is and no `heartbeat` is due.  `now` is RFC 3339."""
    known = node.get("status") or {}
    status = _status_changes(known, view)
    metadata = node["metadata"]
    needed = {name: node_labels(view)[name] for name in (OS, ARCH)}
    changed = _metadata(_differing(metadata.get("labels") or {}, needed), _annotation_changes(metadata, view)) or {}
    heartbeat = heartbeat or bool(status or changed)
    conditions = condition_entries(known.get("conditions") or (), view.conditions, now, heartbeat=heartbeat)
    if conditions:
        status["conditions"] = conditions
    return {**changed, "status": status} if status else None


def _status_changes(known: Json, view: NodeView) -> Json:
    capacity, free = resources(view)
    changes: Json = {}
    present = known.get("capacity") or {}
    # What others advertise (extended resources) stays, and all of it is for pods.
    others = {name: amount for name, amount in present.items() if name not in capacity and HUGE_PAGES not in name}
    for field, amounts in (("capacity", capacity), ("allocatable", {**others, **free})):
        if differing := _amounts(known.get(field) or {}, amounts):
            changes[field] = differing
    if info := _differing(known.get("nodeInfo") or {}, node_info(view)):
        changes["nodeInfo"] = info
    for field, wanted in lists(view).items():
        if (known.get(field) or []) != wanted:
            changes[field] = wanted
    told = known.get("addresses") or []
    if told != (wanted_addresses := addresses(view, told)):
        # Merged by their type, two addresses of one type would become one.
        changes["addresses"] = [*wanted_addresses, {"$patch": "replace"}]
    if _port(known) != view.api_port:
        changes["daemonEndpoints"] = daemon_endpoints(view)
    # What a kubelet before us said, and is not so now.
    if known.get("declaredFeatures"):
        changes["declaredFeatures"] = None
    return changes


def _port(known: Json) -> int:
    endpoint = (known.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}
    return int(endpoint.get("Port") or 0)


def _amounts(known: Mapping[str, str], wanted: Mapping[str, str]) -> Json:
    changes: Json = {name: text for name, text in wanted.items() if not _is_same(known.get(name), text)}
    gone = [name for name in known if name.startswith(HUGE_PAGES) and name not in wanted]
    return {**changes, **dict.fromkeys(gone)}


def _is_same(known: str | None, wanted: str) -> bool:
    try:
        return known is not None and parse_quantity(known) == parse_quantity(wanted)
    except ValueError:  # what another wrote there is no amount: ours takes its place
        return False


def _annotation_changes(metadata: Json, view: NodeView) -> Json:
    known, wanted = metadata.get("annotations") or {}, node_annotations(view)
    gone = [name for name in (ATTACH_DETACH, PROVIDED_NODE_IP) if name in known and name not in wanted]
    return {**_differing(known, wanted), **dict.fromkeys(gone)}


def _differing(known: Mapping[str, Any], wanted: Mapping[str, Any]) -> Json:
    return {name: found for name, found in wanted.items() if known.get(name) != found}


def _metadata(changed_labels: Json, changed_annotations: Json) -> Json | None:
    changes = {"labels": changed_labels, "annotations": changed_annotations}
    found = {name: part for name, part in changes.items() if part}
    return {"metadata": found} if found else None
