"""The Lease that says that this node lives, and who else renews it.

Pure.  Before: `lease_keeper` has read what is there.  Next: it sends the body.  Sources: API type Lease of
coordination.k8s.io/v1, KEP-589: 40 s long and renewed every 10 s, in namespace kube-node-lease, named and held by the
node, owned by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

Json = dict[str, Any]
NAMESPACE = "kube-node-lease"
COLLECTION = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"


class LeaseShape(msgspec.Struct):
    """What of a Lease that was read is used, besides sending it back."""

    metadata: dict[str, Any]
    spec: dict[str, Any] | None = None


def renewed(known: Json | None, node_name: str, node_uid: str, duration_s: int, now: str) -> Json:
    """The lease to be written; `known` is the one that is there, `node_uid` is "" while there is no Node to own it.

    `now` is RFC 3339 with microseconds.
    """
    metadata: Json = {"name": node_name, "namespace": NAMESPACE}
    spec: Json = {}
    if known is not None:
        metadata, spec = dict(known["metadata"]), dict(known.get("spec") or {})
    if node_uid and not metadata.get("ownerReferences"):
        owner = {"apiVersion": "v1", "kind": "Node", "name": node_name, "uid": node_uid}
        metadata["ownerReferences"] = [owner]
    spec |= {"holderIdentity": node_name, "leaseDurationSeconds": duration_s, "renewTime": now}
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}


def renew_time(lease: Mapping[str, Any]) -> str:
    """When it was renewed; "" where it does not say."""
    return str((lease.get("spec") or {}).get("renewTime") or "")


def describe_rival(node_name: str, node: Json | None, own_info: Mapping[str, str]) -> str:
    """Another agent renews our lease: one line for people.  `own_info` is what our own nodeInfo says."""
    found = (node or {}).get("status") or {}
    info = found.get("nodeInfo") or {}
    names = ("machineID", "systemUUID", "bootID")
    told = [f"{name} {info[name]}" for name in names if info.get(name) and info[name] != own_info.get(name)]
    if told:
        told += [str(one.get("address")) for one in found.get("addresses") or () if one.get("type") == "InternalIP"]
    who = f" ({', '.join(told)})" if told else ""
    return (
        f"another agent{who} is node {node_name} too and renews its lease: both run its pods; give one of them another "
        "name (--hostname-override)"
    )
