"""`longshore down`: this machine is no cluster any more.

Before: `longshore up`. Next: a node that runs static pods alone, as before. Effects: ends the cluster's pods, removes
what `control_plane.record` says is ours, etcd's data too.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from cli.api_pods import left_api_pods
from cli.bring_up import pod_name
from cli.cluster import Cluster, kubernetes_dir_option, open_cluster, shows_failures
from cli.failure import Failure
from cli.preflight_cluster import port_obstacles
from cli.preflight_machine import listening
from cli.target import Target, pass_target
from cli.units import DAEMONS, booted_by_systemd, drop_in, runs_below, systemctl
from cli.up import unit_dir_option
from control_plane.network import BRIDGE, LEASES
from control_plane.removal import remove_all, remove_file
from control_plane.settings import COMPONENTS

_EVERY_S = 0.5


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@kubernetes_dir_option
@unit_dir_option
@click.option(
    "--timeout",
    "timeout_s",
    type=click.IntRange(1),
    default=180,
    show_default=True,
    help="Seconds to wait for pods to end.",
)
@pass_target
@shows_failures
def down(target: Target, yes: bool, kubernetes_dir: Path, unit_dir: Path, timeout_s: int) -> None:
    """Take the control plane away: its pods, the cluster's pods on this node, certificates, kubeconfigs, etcd's data.

    Only what `longshore up` and `longshore control-plane` have made goes. Agent and proxy stay, and run static pods and
    services of this machine alone again. Cut off in the middle, run it again.
    """
    cluster = open_cluster(target, {"kubernetes_dir": kubernetes_dir})
    record = cluster.files.record
    if not record.made:
        click.echo(f"nothing to take away: longshore has made nothing below {cluster.places.kubernetes_dir}")
        return
    if not yes:
        click.echo(f"This removes {len(record.made)} files and directories, and with them every object of the cluster:")
        for path in sorted(record.made):
            click.echo(f"  {path}")
        click.confirm("Go on?", abort=True)
    deadline_s = time.monotonic() + timeout_s
    _alone_again(cluster, unit_dir)
    _end_pods(cluster, target, deadline_s)
    if LEASES in record.made:
        _remove_bridge()
    removed = remove_all(record, frozenset({cluster.places.etcd_data, cluster.places.kubelet_pki, LEASES}))
    click.echo(f"{len(removed)} files and directories removed")


def _alone_again(cluster: Cluster, unit_dir: Path) -> None:
    """Agent and proxy without an API server."""
    for unit in DAEMONS:
        remove_file(cluster.files.record, drop_in(unit_dir, unit))
    if booted_by_systemd():
        systemctl("daemon-reload")
        if theirs := [unit for unit in DAEMONS if runs_below(unit, cluster.places.kubernetes_dir)]:
            systemctl("restart", "--no-block", *(f"{unit}.service" for unit in theirs))


def _end_pods(cluster: Cluster, target: Target, deadline_s: float) -> None:
    """The agent ends a pod whose manifest is gone. Raises Failure where they cannot be ended.

    One after the other, as an API server without etcd takes its whole grace period to end.
    """
    _until(partial(_api_pods, target), deadline_s)
    for component in reversed(COMPONENTS):
        remove_file(cluster.files.record, cluster.places.manifest(component))
        pod = f"{component}-{cluster.settings.node_name}"
        _until(partial(_runs, target, component, pod), deadline_s)


def _api_pods(target: Target) -> str:
    """What is left of the cluster's pods on this node, "" where nothing is."""
    left = left_api_pods(target)
    shown = ", ".join(left[:3]) + (", ..." if len(left) > 3 else "")
    hint = "" if booted_by_systemd() else "; an agent without --kubeconfig ends them"
    return f"pods of the cluster are ending: {shown}{hint}" if left else ""


def _runs(target: Target, component: str, pod: str) -> str:
    """How that is known, "" where it does not run."""
    try:
        found = any(pod_name(entry) == pod for entry in target.agent("/v1/pods").get("pods", []))
    except Failure as failure:
        held = [line for line in port_obstacles(listening(), runs_ours=False) if f" of {component}:" in line]
        return f"{held[0].partition(';')[0]}; {failure.message}" if held else ""
    return f"pod {pod} is ending" if found else ""


def _until(problem: Callable[[], str], deadline_s: float) -> None:
    said = ""
    while reason := problem():
        if reason != said:
            click.echo(f"waiting: {reason}")
            said = reason
        if time.monotonic() > deadline_s:
            raise Failure(f"cannot take the control plane away: {reason}; nothing else was removed, run it again")
        time.sleep(_EVERY_S)


def _remove_bridge() -> None:
    """And routes to other nodes' pods, and rules. Raises Failure."""
    from pyroute2 import IPRoute  # late: only this needs it

    from agent.cluster.route_table import apply_routes
    from agent.cluster.routes import no_rules

    apply_routes(())
    done = subprocess.run(["nft", "-f", "-"], input=no_rules(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failure(f"cannot remove the rules of the pod network: nft: {' '.join(done.stderr.split())[:200]}")
    with IPRoute() as links:
        for index in links.link_lookup(ifname=BRIDGE):
            links.link("del", index=index)
