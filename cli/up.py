"""`longshore up`: this machine becomes a cluster of one node: control plane, Node, services.

Before: the package or the lab has installed agent and proxy. Next: kubectl. Effects: what `longshore control-plane
certs`, `kubeconfigs` and `manifests` do, then drop-ins of the units, then waits. A second run changes nothing.
"""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import click

from cli import api
from cli.backups.places import DEFAULT_CONFIG_DIR, read_raw_config
from cli.bring_up import Watcher
from cli.cluster import Cluster, cluster_options, open_cluster, shows_failures
from cli.control_plane_output import print_made, print_manifests
from cli.etcd_members import announce, is_shared, promote, working_others
from cli.failure import Failure
from cli.preflight_cluster import obstacles
from cli.target import Target, pass_target
from cli.units import booted_by_systemd, command_lines, drop_ins, proxy_config, proxy_file, start
from control_plane.bootstrap import joining_objects
from control_plane.kubeconfigs import anonymous_kubeconfig
from control_plane.settings import ETCD, JOINING
from control_plane.x509 import certificate_pem

_DIRECTORY = click.Path(path_type=Path)
DEFAULT_UNIT_DIR = "/etc/systemd/system"
DEFAULT_CNI_DIR = "/etc/cni/net.d"


config_dir_option = click.option(
    "--config-dir", type=_DIRECTORY, default=DEFAULT_CONFIG_DIR, show_default=True,
    help="Directory of agent.yaml and proxy.yaml.",
)  # fmt: skip
unit_dir_option = click.option(
    "--unit-dir", type=_DIRECTORY, default=DEFAULT_UNIT_DIR, show_default=True, help="Directory of the units' drop-ins."
)
cni_dir_option = click.option(
    "--cni-conf-dir", type=_DIRECTORY, default=DEFAULT_CNI_DIR, show_default=True,
    help="Directory of network configurations.",
)  # fmt: skip
timeout_option = click.option(
    "--timeout",
    "timeout_s",
    type=click.IntRange(1),
    default=600,
    show_default=True,
    help="Seconds to wait for everything.",
)


@click.command()
@click.option("--control-plane", is_flag=True, help="Run etcd and the control plane here, as static pods of the agent.")
@cluster_options
@config_dir_option
@unit_dir_option
@cni_dir_option
@timeout_option
@pass_target
@shows_failures
def up(
    target: Target,
    control_plane: bool,
    config_dir: Path,
    unit_dir: Path,
    cni_conf_dir: Path,
    timeout_s: int,
    **values: Any,
) -> None:
    """Make this machine a Kubernetes cluster of one node, with the agent and the proxy as its node.

    Certificates, kubeconfigs and static pods are made where they are missing; the agent runs the control plane and
    registers the Node, the proxy follows the API server. Where the node has no pod network it gets a bridge. What is
    there already stays, so a second run changes nothing. `longshore down` takes all of it away.

    Where systemd does not run, the commands to start are printed; run `longshore up` again to wait for them.
    """
    if not control_plane:
        raise click.UsageError(
            "say --control-plane: this machine runs the control plane; a worker joins with longshore join"
        )
    cluster = open_cluster(target, values)
    refuse_obstacles(cluster, config_dir)
    if lacks_certificates(cluster):
        raise Failure("cannot bring the control plane up: longshore join --control-plane was cut off; give it again")
    refuse_second_cluster(cluster)
    cluster = cluster.with_settings(etcd_shared=has_others(cluster))
    deadline_s = time.monotonic() + timeout_s
    cluster.remember()
    bring_up(cluster, target, config_dir, unit_dir, cni_conf_dir, deadline_s)


def bring_up(
    cluster: Cluster, target: Target, config_dir: Path, unit_dir: Path, cni_conf_dir: Path, deadline_s: float
) -> None:
    """Everything, where it is missing; `deadline_s` on the monotonic clock.  Raises Failure, ControlPlaneError."""
    joins = bool(cluster.settings.etcd_cluster)
    click.echo("certificates")
    print_made(cluster.pki.ensure(cluster.settings))
    click.echo("kubeconfigs")
    print_made(cluster.kubeconfigs.ensure(cluster.settings))
    if not joins:
        click.echo("static pods")
        print_manifests(cluster)
    if not _start_daemons(cluster, target, config_dir, unit_dir):
        return
    if joins:
        cluster = _join_etcd(cluster, deadline_s)
    watcher = Watcher(cluster, target, deadline_s)
    watcher.api_server()
    watcher.accepted(partial(let_others_join, cluster), "what joining nodes need")
    watcher.node(cni_conf_dir)
    click.echo(f"kubectl --kubeconfig {cluster.places.kubeconfig('admin')} get nodes")


def refuse_obstacles(cluster: Cluster, config_dir: Path) -> None:
    """Raises Failure with all that stands in the way."""
    if found := list(obstacles(cluster, config_dir, os.geteuid())):
        raise Failure("cannot bring the control plane up:\n" + "\n".join(f"  {line}" for line in found))


def refuse_second_cluster(cluster: Cluster) -> None:
    """Where etcd has no data here, and others have the cluster's: the first of them has lost its own.  Raises
    Failure.
    """
    if cluster.settings.etcd_cluster or cluster.places.etcd_data.exists():
        return
    if others := working_others(cluster):
        fix = "longshore down, and longshore join --control-plane, as another machine does"
        names = ", ".join(others)
        raise Failure(f"cannot begin a cluster: etcd has no data here, and members that work on {names}; {fix}")


def has_others(cluster: Cluster) -> bool:
    """Whether others have joined the first of a cluster, this machine: without data it is one that begins."""
    return not cluster.settings.etcd_cluster and cluster.places.etcd_data.exists() and is_shared(cluster)


def lacks_certificates(cluster: Cluster) -> bool:
    """Whether it is to join others, and has not taken over what they share."""
    return cluster.settings.etcd_cluster == JOINING and not cluster.places.kubeconfig("admin").exists()


def _join_etcd(cluster: Cluster, deadline_s: float) -> Cluster:
    """Beside others: they know of it before it starts, and the API server follows once it votes."""
    if not cluster.places.etcd_data.exists():
        cluster = announce(cluster, deadline_s)
    click.echo("static pods")
    print_manifests(cluster, {ETCD})
    promote(cluster, deadline_s)
    print_manifests(cluster)
    return cluster


def let_others_join(cluster: Cluster) -> None:
    """What `longshore join` needs of the cluster; a second time changes nothing."""
    ca = certificate_pem(cluster.pki.authority().certificate)
    text = anonymous_kubeconfig(cluster.settings.server, ca).decode()
    administrator = api.access(cluster.places.kubeconfig("admin"))
    for path, value in joining_objects(text).items():
        api.apply(administrator, path, value)


def _start_daemons(cluster: Cluster, target: Target, config_dir: Path, unit_dir: Path) -> bool:
    """Whether they run."""
    places, node_name = cluster.places, cluster.settings.node_name
    commands = command_lines(places, config_dir, node_name, cluster.settings.node_ip)
    alone = read_raw_config(config_dir / "proxy.yaml")
    wanted = {proxy_file(places): proxy_config(alone, places, node_name)}
    if booted_by_systemd():
        wanted |= drop_ins(unit_dir, commands)
    click.echo("daemons")
    made = cluster.files.write(wanted)
    print_made(made)
    if booted_by_systemd():
        start(commands, again=bool(made))
        return True
    if target.agent_status():
        return True
    click.echo("systemd does not run here; start these by other means, then run longshore up again:")
    for words in commands.values():
        click.echo(f"  {' '.join(words)}")
    return False
