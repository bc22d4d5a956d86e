"""What requests to the API server have in common.  No I/O of its own.

Before: whoever writes there, such as `status_writer`, knows what is to be said.  Next: a client sends it.
"""

from __future__ import annotations

import msgspec

from agent.cluster.protocols import Api

JSON = "application/json"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"


def pod_path(namespace: str, name: str = "", part: str = "") -> str:
    """Of a pod, of all pods of a namespace, or of a part of a pod such as "status"."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    return "/".join(piece for piece in (path, name, part) if piece)


async def delete_pod(client: Api, namespace: str, name: str, uid: str) -> None:
    """Delete at once exactly the pod with this UID, not one that has its name by now. Raises ApiError."""
    options = {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "gracePeriodSeconds": 0,
        "preconditions": {"uid": uid},
    }
    await client.send("DELETE", pod_path(namespace, name), msgspec.json.encode(options), JSON)
