"""Take a Node out of its cluster: `drain NAME SECONDS`, and, once its agent knows of no cluster, `delete NAME`.

Run by reset.yml through the package's Python on the machine that runs the control plane, whose admin.conf it uses. Exit
0 with what was done on stdout, nothing where there is no such Node; 1 with the reason where a pod stays, and then the
Node stays cordoned; 2 where the API server does not answer.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from urllib.parse import quote

from kube_client.client import KubeClient
from kube_client.config import ConfigError
from kube_client.errors import ApiError, StatusError, is_away
from kube_client.kubeconfig import read_kubeconfig

ADMIN = Path("/etc/kubernetes/admin.conf")
MIRROR = "kubernetes.io/config.mirror"
GONE, PAUSE_S = 404, 1.0


async def drain(api, name, seconds):
    """No new pods for the Node, and those that it has evicted. RuntimeError where one stays, ApiError."""
    body = json.dumps({"spec": {"unschedulable": True}}).encode()
    try:
        await api.send("PATCH", node_path(name), body, "application/merge-patch+json")
    except ApiError as error:
        if error.status == GONE:
            return ""
        raise
    deadline = time.monotonic() + seconds
    seen = set()
    while True:
        try:
            left = await evict_all(api, name)
        except ApiError as error:  # it may come back before the time is over
            if not is_away(error) or time.monotonic() >= deadline:
                raise
            left = {"the API server": error}
        else:
            seen |= set(left)
        if not left:
            return f"drained the Node {name}; evicted: {', '.join(sorted(seen)) or 'nothing'}"
        if time.monotonic() >= deadline:
            raise RuntimeError("; ".join(f"{pod} stays: {why}" for pod, why in sorted(left.items())))
        await asyncio.sleep(PAUSE_S)


async def evict_all(api, name):
    """What is still on the Node, by name, and why. ApiError."""
    answer = await api.get("/api/v1/pods", {"fieldSelector": f"spec.nodeName={name}"})
    return {pod_name(pod): await evict(api, pod) for pod in filter(must_go, json.loads(answer)["items"])}


async def delete(api, name):
    """The Node, whoever is still on it. ApiError."""
    return f"deleted the Node {name}" if await send_unless_gone(api, "DELETE", node_path(name)) else ""


def node_path(name):
    """Below the server."""
    return f"/api/v1/nodes/{quote(name, safe='')}"


def pod_name(pod):
    """As kubectl says it."""
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"


def must_go(pod):
    """As `kubectl drain`: not what only the node itself ends, nor what its DaemonSet brings back, nor what is over."""
    meta = pod["metadata"]
    owners = {one["kind"] for one in meta.get("ownerReferences", ()) if one.get("controller")}
    over = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
    return MIRROR not in meta.get("annotations", {}) and "DaemonSet" not in owners and not over


async def evict(api, pod):
    """Why it is still there."""
    meta = pod["metadata"]
    if "deletionTimestamp" in meta:
        return "it has not ended yet"
    wanted = {"namespace": meta["namespace"], "name": meta["name"]}
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": wanted,
        "deleteOptions": {"preconditions": {"uid": meta["uid"]}},
    }
    path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/eviction"
    try:
        await send_unless_gone(api, "POST", path, json.dumps(body).encode(), "application/json")
    except StatusError as error:  # a PodDisruptionBudget, as a rule
        return str(error)
    return "it has not ended yet"


async def send_unless_gone(api, *request):
    """Whether there was such an object. ApiError."""
    try:
        await api.send(*request)
    except ApiError as error:
        if error.status != GONE:
            raise
        return False
    return True


async def main(verb, name, seconds="0"):
    """Exit status."""
    try:
        async with KubeClient(read_kubeconfig(ADMIN), "longshore-ansible") as api:
            print(await drain(api, name, float(seconds)) if verb == "drain" else await delete(api, name))
    except RuntimeError as error:
        print(error)
        return 1
    except ApiError as error:
        print(error)
        return 2 if is_away(error) else 1
    except ConfigError as error:
        print(error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:])))
