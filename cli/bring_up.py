"""Waiting for a control plane and its node to work, and saying what they wait for. I/O: the API server, the agent.

Before: `longshore up` has written every file. Next: the Node is Ready. The pod network is written here, because only
the API server knows the node's pod CIDR.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from cli import api
from cli.cluster import Cluster
from cli.failure import UNREACHABLE, Failure
from cli.preflight import CNI_ENDINGS, Places
from cli.target import Target
from control_plane.errors import ControlPlaneError
from control_plane.files import PUBLIC, Content
from control_plane.network import FILE_NAME, HOST_PORTS, LEASES, NEEDED, bridge_conflist
from control_plane.settings import COMPONENTS
from control_plane.upgrade import release_of

Json = dict[str, Any]
_EVERY_S = 1.0
_ROLE = "node-role.kubernetes.io/control-plane"


class Watcher:
    """Waits with a deadline; a line whenever the reason changes."""

    def __init__(self, cluster: Cluster, target: Target, deadline_s: float, *, who: str = "admin") -> None:
        """`deadline_s`: on the monotonic clock; `who`: the kubeconfig to ask with."""
        self._cluster = cluster
        self._kubeconfig = cluster.places.kubeconfig(who)
        self._is_admin = who == "admin"
        self._target = target
        self._deadline_s = deadline_s
        self._said = ""

    def api_server(self) -> None:
        """Until /readyz says ok, here and at the endpoint, and here by the release that is wanted. Raises Failure."""

        def problem() -> str:
            return self._older_release() if self._ask_local("/readyz") == b"ok" else self._waiting_pods()

        self._until(problem, "the API server")
        settings = self._cluster.settings
        if settings.server != settings.local_server:

            def unreached() -> str:
                return "" if self._ask("/readyz") == b"ok" else "no API server answers there"

            self._until(unreached, f"the endpoint {settings.control_plane_endpoint}")

    def accepted(self, action: Callable[[], None], what: str) -> None:
        """Until the API server does it; a busy one may not answer at first.  Raises Failure."""

        def problem() -> str:
            action()
            return ""

        self._until(problem, what)

    def node(self, cni_conf: Path) -> None:
        """Until the Node is Ready; writes the pod network on the way where there is none. Raises Failure."""

        url = f"/api/v1/nodes/{self._cluster.settings.node_name}"

        def problem() -> str:
            body = self._ask(url)
            if body is None:
                return "the agent has not registered the Node"
            node: Json = msgspec.json.decode(body)
            spec = node.get("spec") or {}
            cidrs = spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else [])
            if not cidrs:
                return "the controller manager has not given the Node a pod CIDR"
            if path := write_network(self._cluster, cni_conf, cidrs):
                click.echo(f"made {path}: a bridge for {', '.join(cidrs)}")
            if self._is_admin and _ROLE not in (node["metadata"].get("labels") or {}):
                # A kubelet may not say so of itself (NodeRestriction).
                api.merge(api.access(self._kubeconfig), url, {"metadata": {"labels": {_ROLE: ""}}})
            return not_ready(node)

        self._until(problem, f"node {self._cluster.settings.node_name}")

    def _until(self, problem: Callable[[], str], what: str) -> None:
        while reason := _told(problem):
            if reason != self._said:
                self._said = reason
                click.echo(f"waiting for {what}: {reason}")
            if time.monotonic() > self._deadline_s:
                raise Failure(f"cannot wait for {what} any longer: {reason}; see longshore pods", UNREACHABLE)
            time.sleep(_EVERY_S)
        click.echo(f"{what} is ready")

    def _ask(self, path: str) -> bytes | None:
        return api.look(api.access(self._kubeconfig), path) if self._kubeconfig.exists() else None

    def _ask_local(self, path: str) -> bytes | None:
        """Of this machine's API server, whoever else may stand behind the endpoint."""
        if not self._kubeconfig.exists():
            return None
        return api.look(api.access(self._kubeconfig, self._cluster.settings.local_server), path)

    def _older_release(self) -> str:
        """In an upgrade, until the agent has seen the manifest, the old API server answers."""
        told, wanted = self._ask_local("/version"), self._cluster.settings.kubernetes_version
        runs = str(msgspec.json.decode(told)["gitVersion"]) if told else wanted
        found, after = release_of(runs), release_of(wanted)
        return f"it is still {runs}, not {wanted}" if found and after and found < after else ""

    def _waiting_pods(self) -> str:
        """What the agent says of the static pods."""
        try:
            entries = self._target.agent("/v1/pods").get("pods", [])
        except Failure as failure:
            return failure.message
        names = {f"{name}-{self._cluster.settings.node_name}": name for name in COMPONENTS}
        found = {names[pod_name(entry)]: entry for entry in entries if pod_name(entry) in names}
        for name in COMPONENTS:
            if name not in found:
                return f"the agent has not seen {self._cluster.places.manifest(name)}"
            for waiting in found[name].get("waiting") or ():
                return f"{name}: {waiting.get('message') or waiting.get('reason')}"
        return "it does not answer yet"


def _told(problem: Callable[[], str]) -> str:
    try:
        return problem()
    except Failure as failure:
        if failure.exit_code != UNREACHABLE:
            raise
        return failure.message


def write_network(cluster: Cluster, cni_conf: Path, pod_cidrs: list[str]) -> Path | None:
    """The bridge, unless the node has a network of somebody else; its file when that was made or changed.

    Raises Failure, ControlPlaneError.
    """
    place = cni_conf / FILE_NAME
    others = [path for path in cni_conf.glob("*") if path.name.endswith(CNI_ENDINGS) and path != place]
    ours = place in cluster.files.record.made or not place.exists()
    if others or not ours:
        return None
    plugins = {path.name for directory in Places().cni_bins for path in directory.glob("*")}
    if missing := [name for name in NEEDED if name not in plugins]:
        fix = "apt-get install containernetworking-plugins, or install another network"
        raise Failure(f"cannot make a pod network: the CNI plugin {missing[0]} is not installed; {fix}")
    try:
        text = bridge_conflist(pod_cidrs, host_ports=HOST_PORTS in plugins)
    except ValueError as error:
        raise ControlPlaneError(f"cannot make a pod network: the Node's podCIDR: {error}") from None
    cluster.files.record.note({}, trees=[LEASES])  # before the first pod can have one
    made = cluster.files.write({place: Content(text, PUBLIC)})
    return place if made else None


def not_ready(node: Json) -> str:
    """Why a Node is not Ready, "" where it is."""
    for condition in (node.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "Ready":
            if condition.get("status") == "True":
                return ""
            return str(condition.get("message") or condition.get("reason") or "not ready")
    return "the agent has not reported its condition"


def pod_name(entry: Json) -> str:
    """Of an entry of the agent's `/v1/pods`."""
    return str(entry["pod"]["metadata"]["name"])
