"""`longshore down`: this machine is no cluster any more.

Before: `longshore up`. Next: a node that runs static pods alone, as before. Effects: ends the cluster's pods, removes
what `control_plane.record` says is ours, etcd's data too.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from cli.bring_up import pod_name
from cli.cluster import Cluster, kubernetes_dir_option, open_cluster, shows_failures
from cli.etcd_members import leave
from cli.failure import Failure
from cli.preflight_cluster import port_obstacles
from cli.preflight_machine import listening
from cli.sandboxes import Sandboxes
from cli.target import Target, pass_target
from cli.units import DAEMONS, booted_by_systemd, drop_in, runs_below, systemctl
from cli.up import unit_dir_option
from control_plane.etcd_restore import note_waiting
from control_plane.network import BRIDGE, FILE_NAME, LEASES
from control_plane.removal import remove_all, remove_file
from control_plane.settings import COMPONENTS, ETCD
from cri_client.errors import CriError

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
    note_waiting(cluster.places, record)
    _take_away(cluster, target, unit_dir, deadline_s)
    made = sorted(record.made)
    removed = remove_all(record, frozenset({cluster.places.etcd_data, cluster.places.kubelet_pki, LEASES}))
    click.echo(f"{len(removed)} files and directories removed")
    for path in made:
        if path.is_file():
            click.echo(f"left {path}: it is not as longshore has made it")


def _take_away(cluster: Cluster, target: Target, unit_dir: Path, deadline_s: float) -> None:
    """All but the files. Raises Failure."""
    record = cluster.files.record
    sandboxes = Sandboxes(target)  # asks the agent before it starts again
    has_network = LEASES in record.made
    if has_network:
        _until(partial(_network_users, sandboxes, but_api=True), deadline_s)
    if cluster.places.manifest(ETCD) in record.made:
        leave(cluster, only_look=True)
    _alone_again(cluster, unit_dir)
    _end_pods(cluster, target, sandboxes, deadline_s)
    if has_network:
        _until(partial(_network_users, sandboxes), deadline_s)
        for path in [one for one in record.made if one.name == FILE_NAME]:
            remove_file(record, path)
        _remove_bridge()


def _alone_again(cluster: Cluster, unit_dir: Path) -> None:
    """Agent and proxy without an API server."""
    for unit in DAEMONS:
        remove_file(cluster.files.record, drop_in(unit_dir, unit))
    if booted_by_systemd():
        systemctl("daemon-reload")
        if theirs := [unit for unit in DAEMONS if runs_below(unit, cluster.places.kubernetes_dir)]:
            systemctl("restart", "--no-block", *(f"{unit}.service" for unit in theirs))


def _end_pods(cluster: Cluster, target: Target, sandboxes: Sandboxes, deadline_s: float) -> None:
    """The agent ends a pod whose manifest is gone. Raises Failure where they cannot be ended.

    One after the other, as an API server without etcd takes its whole grace period to end.
    """
    _until(partial(_api_pods, sandboxes), deadline_s)
    for component in reversed(COMPONENTS):
        manifest = cluster.places.manifest(component)
        # After the API server, which would wait for etcd as long as it may.
        if component == ETCD and manifest in cluster.files.record.made and (left := leave(cluster)):
            click.echo(left)
        remove_file(cluster.files.record, manifest)
        if manifest.exists():
            continue  # a pod of somebody else by that name, which stays
        pod = f"{component}-{cluster.settings.node_name}"
        _until(partial(_runs, target, component, pod, manifest.name), deadline_s)


def _api_pods(sandboxes: Sandboxes) -> str:
    """What is left of the cluster's pods on this node, "" where nothing is. Raises CriError."""
    left = sandboxes.of_api_server()
    hint = "" if booted_by_systemd() else "; an agent without --kubeconfig ends them"
    return f"pods of the cluster are ending: {_some(left)}{hint}" if left else ""


def _network_users(sandboxes: Sandboxes, *, but_api: bool = False) -> str:
    """Whom the pod network cannot be taken from, "" where nobody uses it. Without it the runtime could never remove
    them. Raises CriError.
    """
    ending = sandboxes.of_api_server() if but_api else []
    left = [name for name in sandboxes.with_lease(LEASES) if name not in ending]
    return f"pods have addresses of {BRIDGE}: {_some(left)}; remove their manifests" if left else ""


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _runs(target: Target, component: str, pod: str, file_name: str) -> str:
    """How that is known, "" where it does not run. One of that name from another file is somebody else's."""
    try:
        found = any(
            pod_name(entry) == pod and Path(entry.get("source") or file_name).name == file_name
            for entry in target.agent("/v1/pods").get("pods", [])
        )
    except Failure as failure:
        held = [line for line in port_obstacles(listening(), runs_ours=False) if f" of {component}:" in line]
        return f"{held[0].partition(';')[0]}; {failure.message}" if held else ""
    return f"pod {pod} is ending" if found else ""


def _until(problem: Callable[[], str], deadline_s: float) -> None:
    said = ""
    while reason := _told(problem):
        if reason != said:
            click.echo(f"waiting: {reason}")
            said = reason
        if time.monotonic() > deadline_s:
            raise Failure(f"cannot take the control plane away: {reason}; nothing else was removed, run it again")
        time.sleep(_EVERY_S)


def _told(problem: Callable[[], str]) -> str:
    try:
        return problem()
    except CriError as error:
        return str(error)  # that nobody knows is not that nothing is left


def _remove_bridge() -> None:
    """And routes to other nodes' pods, and rules. Raises Failure."""
    from pyroute2 import IPRoute  # late: only this needs it

    from agent.cluster.route_table import apply_routes
    from agent.cluster.routes import TABLE, no_rules

    apply_routes(())
    _delete_rules(no_rules(), TABLE)
    with IPRoute() as links:
        for index in links.link_lookup(ifname=BRIDGE):
            links.link("del", index=index)


def _delete_rules(rules: str, table: str) -> None:
    """Apply `rules` where there is the table: a kernel without nf_tables for IP refuses even to delete one, and a
    machine without nft has none. Raises Failure.
    """
    if shutil.which("nft") is None:
        return
    listed = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=False)
    if table not in listed.stdout.split():
        return
    done = subprocess.run(["nft", "-f", "-"], input=rules, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failure(f"cannot remove the rules of the pod network: nft: {' '.join(done.stderr.split())[:200]}")
