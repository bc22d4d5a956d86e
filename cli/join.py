"""`longshore join`: this machine becomes a worker of a cluster.

Before: `longshore control-plane token` on the control plane has printed the command. Next: the agent gets a
certificate by TLS bootstrap and registers the Node. Effects: writes the authority, kubeconfigs, drop-ins, and the pod
network where there is none. Source: kubeadm join,
https://kubernetes.io/docs/reference/access-authn-authz/kubelet-tls-bootstrapping/.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import click

from cli.backups.places import read_raw_config
from cli.bring_up import Watcher
from cli.cluster import Cluster, kubernetes_dir_option, node_ip_option, open_cluster, shows_failures
from cli.control_plane_output import print_made
from cli.discovery import Discovered, credentials, discover, refuse_taken_name, urls
from cli.failure import Failure
from cli.join_control_plane import join_control_plane
from cli.preflight_cluster import daemon_obstacles
from cli.preflight_machine import listening
from cli.target import Target, pass_target
from cli.units import AGENT, PROXY, booted_by_systemd, drop_ins, join_lines, proxy_config, proxy_file, start
from cli.up import cni_dir_option, config_dir_option, timeout_option, unit_dir_option
from control_plane.bootstrap import authority_pin
from control_plane.errors import ControlPlaneError
from control_plane.files import PUBLIC, Content
from control_plane.kubeconfigs import read_cluster, user_kubeconfig
from control_plane.removal import remove_file
from control_plane.x509 import MaterialError, parse_certificate, time_problem


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
@click.option("--control-plane", is_flag=True, help="As one more control plane; see upload-certs.")
@click.option(
    "--certificate-key", envvar="LONGSHORE_CERTIFICATE_KEY", show_envvar=True, help="With --control-plane: as printed."
)
@click.option("--advertise-address", help="With --control-plane: where others reach this machine's API server.")
@click.option("--etcd-dir", type=click.Path(path_type=Path), help="With --control-plane: directory of etcd's data.")
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
    control_plane: bool,
    certificate_key: str | None,
    advertise_address: str | None,
    etcd_dir: Path | None,
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
    by itself again; delete its Node with kubectl. Of several SERVERs, separated by commas, agent and proxy use the one
    that answers.

    With --control-plane, and the command that longshore control-plane upload-certs has printed, it becomes one more
    control plane of the cluster, with a member of etcd. Cut off in the middle, run it again.
    """
    if control_plane:
        own = {"kubernetes_dir": kubernetes_dir, "node_name": node_name, "node_ip": node_ip}
        options = {**own, "advertise_address": advertise_address, "etcd_dir": etcd_dir}
        trusted, directories = bool(pins) or unsafe, (config_dir, unit_dir, cni_conf_dir)
        join_control_plane(
            target, server, token, certificate_key, options,
            pins=pins, trusted=trusted, directories=directories, timeout_s=timeout_s,
        )  # fmt: skip
        return
    if certificate_key or advertise_address or etcd_dir:
        raise click.UsageError("say --control-plane beside --certificate-key, --advertise-address and --etcd-dir")
    cluster = open_cluster(target, {"kubernetes_dir": kubernetes_dir, "node_name": node_name, "node_ip": node_ip})
    _refuse(cluster, config_dir)
    if cluster.places.kubeconfig("kubelet").exists():
        _check_same_cluster(cluster, server, pins)
    deadline_s = time.monotonic() + timeout_s
    joins = not _has_joined(cluster)
    if joins:
        token = credentials(token, trusted=bool(pins) or unsafe)
        found = discover(server, token, pins, cluster.pki.now, deadline_s)
        print_made(_write(cluster, found, token, config_dir))
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


def _refuse(cluster: Cluster, config_dir: Path) -> None:
    """Raises Failure, ControlPlaneError."""
    if os.geteuid() != 0:
        raise Failure("cannot join: not root; run it with sudo")
    if cluster.places.kubeconfig("admin").exists():
        raise Failure(f"cannot join: a control plane is here already ({cluster.places.kubernetes_dir}); longshore down")
    cluster.files.check_free(cluster.places.kubeconfig("kubelet"))
    if found := list(daemon_obstacles(listening(), config_dir)):
        raise Failure("cannot join:\n" + "\n".join(f"  {line}" for line in found))


def _check_same_cluster(cluster: Cluster, server: str, pins: tuple[str, ...]) -> None:
    """A cluster is its authority; without pins, its server. Raises Failure, ControlPlaneError."""
    path = cluster.places.kubeconfig("kubelet")
    try:
        present, ca = read_cluster(cluster.files.read(path) or b"")
        pin = authority_pin(parse_certificate(ca))
    except MaterialError as error:
        raise ControlPlaneError(f"cannot join: {path} {error}; longshore down first") from None
    if pin in pins if pins else set(present.split(",")) & set(urls(server)):
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


def _write(cluster: Cluster, found: Discovered, token: str, config_dir: Path) -> tuple[Path, ...]:
    """Everything but the drop-ins; what was made. Raises ControlPlaneError."""
    server, ca = found.server, found.ca
    refuse_taken_name(found.access(token), cluster.settings.node_name)
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
