"""`longshore control-plane ...`: the phases of `longshore up --control-plane`, one by one.

Before: `cli.cluster` knows which cluster. Next: `control_plane` makes and checks files. Effects: writes below the
kubernetes directory and the manifest directory; prints what was made.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

import click

from cli.ages import short_duration
from cli.cluster import SOON, ClusterOptions, all_states, cluster_options, pass_options, shows_failures
from cli.control_plane_output import print_made, print_manifests
from cli.etcd import etcd
from cli.failure import FAILED, NOT_FOUND, Failure
from cli.load_balancer import load_balancer
from cli.output import format_option, print_table, print_value
from cli.renewal import restart, still_to_start
from cli.share import upload_certs
from cli.target import Target, pass_target
from cli.token import token
from cli.upgrade import upgrade
from control_plane.certificates import certificates, users
from control_plane.pki import CertificateState

HEADER = ("CERTIFICATE", "EXPIRES", "LEFT", "AUTHORITY", "PROBLEM")


@click.group("control-plane")
@cluster_options
@pass_target
@click.pass_context
def control_plane(context: click.Context, target: Target, /, **values: Any) -> None:
    """Certificates, kubeconfigs and static pods of a Kubernetes control plane on this machine.

    Files, names and ports are kubeadm's. The options are remembered: a later command needs them only to change them.
    """
    context.obj = ClusterOptions(target, values)


control_plane.add_command(etcd)
control_plane.add_command(token)
control_plane.add_command(upgrade)
control_plane.add_command(upload_certs)
control_plane.add_command(load_balancer)


@control_plane.group(invoke_without_command=True)
@pass_options
@click.pass_context
@shows_failures
def certs(context: click.Context, options: ClusterOptions) -> None:
    """Make the authorities and certificates that are missing, and show when each expires.

    What is there and good stays. What is there and cannot be used is named with the command that repairs it, and then
    nothing is made.
    """
    if context.invoked_subcommand is not None:
        return
    cluster = options.open()
    cluster.remember()
    print_made(cluster.pki.ensure(cluster.settings))
    _print_states(tuple(cluster.pki.states(cluster.settings)), "table")


@certs.command()
@format_option("table", "json", "yaml")
@pass_options
@click.pass_context
@shows_failures
def show(context: click.Context, options: ClusterOptions, output: str) -> None:
    """Show when each certificate expires, those in kubeconfigs too; exit status 1 where one cannot be used."""
    states = all_states(options.open())
    _print_states(states, output)
    if any(state.problem for state in states):
        context.exit(FAILED)


@certs.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--restart", "starts_again", is_flag=True, help="Also start again who reads a renewed one only then.")
@pass_options
@shows_failures
def renew(options: ClusterOptions, names: tuple[str, ...], starts_again: bool) -> None:
    """Issue certificates anew, for a year; without a NAME all but the authorities.

    NAME is as `certs show` has it: apiserver, etcd/server, admin.conf. Keys stay. API server and etcd read theirs again
    by themselves; controller manager, scheduler, agent and proxy when they start. The pods of this node run on.
    """
    cluster = options.open()
    known = [one.file for one in certificates(cluster.settings)]
    known += [f"{name}.conf" for name in users(cluster.settings)]
    if unknown := [name for name in names if name not in known]:
        there = ", ".join(known)
        raise Failure(f"cannot renew {unknown[0]}: there is no such certificate; there are {there}", NOT_FOUND)
    cluster.remember()
    wanted = names or tuple(known)
    print_made(cluster.pki.renew(cluster.settings, wanted))
    print_made(cluster.kubeconfigs.renew(cluster.settings, wanted))
    for line in restart(cluster, options.target, wanted) if starts_again else still_to_start(wanted):
        click.echo(line)


@control_plane.command()
@pass_options
@shows_failures
def kubeconfigs(options: ClusterOptions) -> None:
    """Make the kubeconfigs that are missing: admin, controller-manager, scheduler, kubelet and proxy (.conf).

    kubectl --kubeconfig /etc/kubernetes/admin.conf may do everything. Needs the authority of `certs`.
    """
    cluster = options.open()
    cluster.remember()
    print_made(cluster.kubeconfigs.ensure(cluster.settings))


@control_plane.command()
@pass_options
@shows_failures
def manifests(options: ClusterOptions) -> None:
    """Write the static pods etcd, kube-apiserver, kube-controller-manager and kube-scheduler for the agent to run.

    A manifest that somebody has edited since stays as it is.
    """
    cluster = options.open()
    cluster.remember()
    print_manifests(cluster)


def _print_states(states: Sequence[CertificateState], output: str) -> None:
    now = datetime.datetime.now(datetime.UTC)
    if output == "table":
        print_table(HEADER, [_row(state, now) for state in states])
        return
    print_value([_value(state) for state in states], output)


def _value(state: CertificateState) -> dict[str, str]:
    expires = state.expires.isoformat().replace("+00:00", "Z") if state.expires else ""
    return {"name": state.name, "expires": expires, "authority": state.authority, "problem": state.problem}


def _row(state: CertificateState, now: datetime.datetime) -> tuple[str, ...]:
    problem = state.problem
    if state.expires is None:
        return (state.name, "", "", state.authority, problem)
    left = state.expires - now
    if not problem and left < SOON:
        problem = f"expires soon; run longshore control-plane certs renew {state.name}"
    shown = short_duration(left.total_seconds())
    return (state.name, f"{state.expires:%Y-%m-%d %H:%M}", shown, state.authority, problem)
