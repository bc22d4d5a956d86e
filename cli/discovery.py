"""Who a cluster is that a machine wants to join: what its API server says of itself, proved by the token and by pins.
I/O: requests to the API server.

Before: `longshore join` was given a server and a token.  Next: it writes files that name the cluster.  Source: kubeadm
join, token-based discovery, https://kubernetes.io/docs/reference/setup-tools/kubeadm/kubeadm-join/.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

import click

from cli import api
from cli.bring_up import not_ready
from cli.failure import Failure
from control_plane.bootstrap import CLUSTER_INFO, UnsignedError, authority_pin, check_cluster_info, parse_token
from control_plane.errors import ControlPlaneError
from control_plane.kubeconfigs import read_cluster
from control_plane.x509 import MaterialError, day, parse_certificate, time_problem
from kube_client.config import ApiConfig, ConfigError, Material
from kube_client.kubeconfig import server_urls

_EVERY_S, _SIGNED_S = 1.0, 15.0


@dataclass(frozen=True)
class Discovered:
    """`server`: one URL, or several separated by commas; `ca`: PEM."""

    server: str
    ca: bytes

    def access(self, token: str) -> ApiConfig:
        """As somebody who joins."""
        return ApiConfig(servers=urls(self.server), ca=Material("cluster-info", data=self.ca), token=token)


def discover(server: str, token: str, pins: Sequence[str], now: datetime.datetime, deadline_s: float) -> Discovered:
    """The cluster at `server`, one URL or several.  Kept are several, and a load balancer of this machine; else the URL
    that the cluster says it has.

    Raises Failure, ControlPlaneError.
    """
    text = _cluster_info(server, token, deadline_s)
    try:
        said, ca = read_cluster(text.encode())
        authority = parse_certificate(ca)
        pin = authority_pin(authority)
    except MaterialError as error:
        raise ControlPlaneError(f"cannot join: what the cluster says of itself {error}") from None
    if pins and pin not in pins:
        raise ControlPlaneError(f"cannot join: the authority of {said} is {pin}, not {', '.join(pins)}")
    if problem := time_problem(authority, now):
        clock = f"this machine's clock says {day(now)} (timedatectl set-ntp true)"
        raise ControlPlaneError(f"cannot join: the authority of {said} {problem}; {clock}")
    given = urls(server)
    found = Discovered(",".join(given) if len(given) > 1 or _is_loopback(given[0]) else said, ca)
    answer = api.get(found.access(""), CLUSTER_INFO)
    if check_cluster_info(json.loads(answer).get("data") or {}, token) != text:
        raise ControlPlaneError(f"cannot join: {said} has another authority than it said before it was asked by it")
    return found


def credentials(token: str | None, *, trusted: bool) -> str:
    """The token, if what only the first run needs was said. Raises ControlPlaneError, UsageError."""
    if not token:
        raise click.UsageError("say --token: this machine has not joined yet")
    parse_token(token)
    if not trusted:
        raise click.UsageError("say --discovery-token-ca-cert-hash, or --discovery-token-unsafe-skip-ca-verification")
    return token


def urls(server: str) -> tuple[str, ...]:
    """Raises Failure."""
    try:
        return server_urls(server, "SERVER")
    except ConfigError as error:
        raise Failure(str(error)) from None


def refuse_taken_name(joining: ApiConfig, name: str) -> None:
    """As kubeadm: two agents of one name would write one Node. A cluster that does not let us look is not asked again.

    Raises ControlPlaneError.
    """
    node = json.loads(api.look(joining, f"/api/v1/nodes/{quote(name, safe='')}") or b"{}")
    if node and not not_ready(node):
        fix = f"kubectl delete node {name}, or say another --node-name"
        raise ControlPlaneError(f"cannot join: the cluster has a node {name} already, and it is Ready; {fix}")


def _is_loopback(server: str) -> bool:
    try:
        return ipaddress.ip_address(urlsplit(server).hostname or "").is_loopback
    except ValueError:
        return False


def _cluster_info(server: str, token: str, deadline_s: float) -> str:
    """The cluster's own kubeconfig without a user, proved by the token. Raises Failure, ControlPlaneError."""
    anybody = ApiConfig(servers=urls(server), insecure=True)
    deadline_s = min(deadline_s, time.monotonic() + _SIGNED_S)
    while True:
        try:
            found = json.loads(api.get(anybody, CLUSTER_INFO))
            return check_cluster_info(found.get("data") or {}, token)
        except (Failure, UnsignedError):
            # A new token is signed with in a moment, and a server that has just begun may not answer yet.
            if time.monotonic() > deadline_s:
                raise
        time.sleep(_EVERY_S)
