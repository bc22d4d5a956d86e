"""`longshore join`: this machine becomes a worker of a cluster.

Before: `longshore control-plane token` on the control plane has printed the command. Next: the agent gets a
certificate by TLS bootstrap and registers the Node. Effects: writes the authority, kubeconfigs, drop-ins, and the pod
network where there is none. Source: kubeadm join,
https://kubernetes.io/docs/reference/access-authn-authz/kubelet-tls-bootstrapping/.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from urllib.parse import quote

import click

from cli import api
from cli.backups.places import read_raw_config
from cli.bring_up import Watcher, not_ready
from cli.cluster import Cluster, kubernetes_dir_option, node_ip_option, open_cluster, shows_failures
from cli.control_plane import print_made
from cli.failure import Failure
from cli.target import Target, pass_target
from cli.units import AGENT, PROXY, booted_by_systemd, drop_ins, join_lines, proxy_config, proxy_file, start
from cli.up import cni_dir_option, config_dir_option, timeout_option, unit_dir_option
from control_plane.bootstrap import CLUSTER_INFO, UnsignedError, authority_pin, check_cluster_info, parse_token
from control_plane.errors import ControlPlaneError
from control_plane.files import PUBLIC, Content
from control_plane.kubeconfigs import read_cluster, user_kubeconfig
from control_plane.removal import remove_file
from control_plane.x509 import MaterialError, day, parse_certificate, time_problem
from kube_client.config import ApiConfig, ConfigError, Material
from kube_client.kubeconfig import server_urls

_EVERY_S, _SIGNED_S = 1.0, 15.0


@click.command()
@click.argument("server")
@click.option(
    "--token", envvar="LONGSHORE_TOKEN", show_envvar=True, help="As longshore control-plane token has printed it."
)
@click.option(
    "--discovery-token-ca-cert-hash", "pins", multiple=True, help="sha256: and the digest of the authority's key."
)
@click.option(
    "--discovery-token-unsafe-skip-ca-verification", "unsafe", is_flag=True, help="Believe whoever knows the token."
)
@click.option("--node-name", help="This node's name.  [default: as the agent says, else the host's]")
@node_ip_option
@kubernetes_dir_option
@config_dir_option
@unit_dir_option
@cni_dir_option
@timeout_option
@pass_target
@shows_failures
def join(
    target: Target,
    server: str,
    token: str | None,
    pins: tuple[str, ...],
    unsafe: bool,
    node_name: str | None,
    node_ip: str | None,
    kubernetes_dir: Path,
    config_dir: Path,
    unit_dir: Path,
    cni_conf_dir: Path,
    timeout_s: int,
) -> None:
    """Make this machine a node of the cluster whose API server is SERVER, such as https://10.0.0.1:6443.

    The token proves the cluster to this machine and this machine to the cluster; the agent then asks for a certificate
    of its own and renews it. A second run changes nothing and needs no token. `longshore down` makes the machine a node
    by itself again; delete its Node with kubectl.
    """
    cluster = open_cluster(target, {"kubernetes_dir": kubernetes_dir, "node_name": node_name, "node_ip": node_ip})
    _refuse(cluster)
    if cluster.places.kubeconfig("kubelet").exists():
        _check_same_cluster(cluster, server, pins)
    deadline_s = time.monotonic() + timeout_s
    joins = not _has_joined(cluster)
    if joins:
        token = _credentials(token, trusted=bool(pins) or unsafe)
        text = _discover(server, token, deadline_s)
        print_made(_write(cluster, text, token, pins, config_dir))
        cluster.remember()
    commands = join_lines(cluster.places, config_dir, cluster.settings.node_name, cluster.settings.node_ip)
    if booted_by_systemd():
        print_made(cluster.files.write(drop_ins(unit_dir, commands)))
        start({AGENT: commands[AGENT]}, again=joins)  # an agent reads its token once
    elif not target.agent_status():
        click.echo("systemd does not run here; start these by other means, the proxy once kubelet.conf is there:")
        for words in commands.values():
            click.echo(f"  {' '.join(words)}")
        return
    Watcher(cluster, target, deadline_s, who="kubelet").node(cni_conf_dir)
    remove_file(cluster.files.record, cluster.places.kubeconfig("bootstrap-kubelet"))  # it holds the token
    if booted_by_systemd():
        start({PROXY: commands[PROXY]})


def _refuse(cluster: Cluster) -> None:
    """Raises Failure, ControlPlaneError."""
    if os.geteuid() != 0:
        raise Failure("cannot join: not root; run it with sudo")
    if cluster.places.kubeconfig("admin").exists():
        raise Failure(f"cannot join: a control plane is here already ({cluster.places.kubernetes_dir}); longshore down")
    cluster.files.check_free(cluster.places.kubeconfig("kubelet"))


def _check_same_cluster(cluster: Cluster, server: str, pins: tuple[str, ...]) -> None:
    """A cluster is its authority; without pins, its server. Raises Failure, ControlPlaneError."""
    path = cluster.places.kubeconfig("kubelet")
    try:
        present, ca = read_cluster(cluster.files.read(path) or b"")
        pin = authority_pin(parse_certificate(ca))
    except MaterialError as error:
        raise ControlPlaneError(f"cannot join: {path} {error}; longshore down first") from None
    if pin in pins if pins else present in _urls(server):
        return
    raise ControlPlaneError(
        f"cannot join: this machine is a node of {present} already, whose authority is {pin}; longshore down first"
    )


def _has_joined(cluster: Cluster) -> bool:
    """Whether the agent has a certificate that is still good."""
    data = cluster.files.read(cluster.places.kubelet_certificate)
    try:
        good = data is not None and time_problem(parse_certificate(data), cluster.pki.now) is None
    except MaterialError:
        good = False
    return good and cluster.places.kubeconfig("kubelet").exists()


def _credentials(token: str | None, *, trusted: bool) -> str:
    """The token, if what only the first run needs was said. Raises ControlPlaneError, UsageError."""
    if not token:
        raise click.UsageError("say --token: this machine has not joined yet")
    parse_token(token)
    if not trusted:
        raise click.UsageError("say --discovery-token-ca-cert-hash, or --discovery-token-unsafe-skip-ca-verification")
    return token


def _refuse_taken_name(joining: ApiConfig, name: str) -> None:
    """As kubeadm: two agents of one name would write one Node. A cluster that does not let us look is not asked again.

    Raises ControlPlaneError.
    """
    node = json.loads(api.look(joining, f"/api/v1/nodes/{quote(name, safe='')}") or b"{}")
    if node and not not_ready(node):
        fix = f"kubectl delete node {name}, or say another --node-name"
        raise ControlPlaneError(f"cannot join: the cluster has a node {name} already, and it is Ready; {fix}")


def _urls(server: str) -> tuple[str, ...]:
    """Raises Failure."""
    try:
        return server_urls(server, "SERVER")
    except ConfigError as error:
        raise Failure(str(error)) from None


def _discover(server: str, token: str, deadline_s: float) -> str:
    """The cluster's own kubeconfig without a user, proved by the token. Raises Failure, ControlPlaneError."""
    anybody = ApiConfig(servers=_urls(server), insecure=True)
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


def _write(cluster: Cluster, text: str, token: str, pins: tuple[str, ...], config_dir: Path) -> tuple[Path, ...]:
    """Everything but the drop-ins; what was made. Raises ControlPlaneError."""
    try:
        server, ca = read_cluster(text.encode())
        authority = parse_certificate(ca)
        pin = authority_pin(authority)
    except MaterialError as error:
        raise ControlPlaneError(f"cannot join: what the cluster says of itself {error}") from None
    if pins and pin not in pins:
        raise ControlPlaneError(f"cannot join: the authority of {server} is {pin}, not {', '.join(pins)}")
    if problem := time_problem(authority, cluster.pki.now):
        clock = f"this machine's clock says {day(cluster.pki.now)} (timedatectl set-ntp true)"
        raise ControlPlaneError(f"cannot join: the authority of {server} {problem}; {clock}")
    answer = api.get(ApiConfig(servers=(server,), ca=Material("cluster-info", data=ca)), CLUSTER_INFO)
    if check_cluster_info(json.loads(answer).get("data") or {}, token) != text:
        raise ControlPlaneError(f"cannot join: {server} has another authority than it said before it was asked by it")
    joining = ApiConfig(servers=(server,), ca=Material("cluster-info", data=ca), token=token)
    _refuse_taken_name(joining, cluster.settings.node_name)
    places = cluster.places
    current = str(places.kubelet_certificate)
    own = {"client-certificate": current, "client-key": current}
    files = cluster.files
    alone, node_name = read_raw_config(config_dir / "proxy.yaml"), cluster.settings.node_name
    wanted = {
        places.pki / "ca.crt": Content(ca, PUBLIC),
        places.kubeconfig("bootstrap-kubelet"): Content(user_kubeconfig(server, ca, "tls-bootstrap", {"token": token})),
        places.kubeconfig("proxy"): Content(user_kubeconfig(server, ca, "node", own)),
        proxy_file(places): proxy_config(alone, places, node_name),
    }
    for path, content in wanted.items():
        files.check_free(path, content.data)
    files.record.note({}, [places.kubeconfig("kubelet")], [places.kubelet_pki])
    return files.write(wanted)
