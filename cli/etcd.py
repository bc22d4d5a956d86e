"""`longshore control-plane etcd snapshot save|status|restore`: the cluster's state in one file, and back.

Before: `cli.control_plane` knows which cluster.  Next: `control_plane.etcd_client`, `snapshot` and `etcd_restore`.
Effects: writes the file that is named; a restore replaces etcd's data, by the agent that runs on this machine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import mmap
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import click

from cli.bring_up import pod_name
from cli.cluster import Cluster, ClusterOptions, pass_options, shows_failures
from cli.etcd_members import members, remove_member, working_others
from cli.failure import FAILED, UNREACHABLE, Failure
from cli.output import check_replaceable, format_option, print_table, print_value
from cli.preflight_cluster import port_obstacles
from cli.preflight_machine import listening
from cli.target import Target
from control_plane.errors import ControlPlaneError
from control_plane.etcd_client import save_snapshot
from control_plane.etcd_restore import POD, Restore, delay, outcome
from control_plane.settings import COMPONENTS, ETCD, ETCD_CLIENT_PORT, url
from control_plane.snapshot import Snapshot, read_snapshot, version_problem
from control_plane.x509 import certificate_pem
from daemonkit.files import LockHeldError, locked_directory

_FILE = click.Path(path_type=Path, dir_okay=False)
_EVERY_S = 0.5
_CLEAR_S = 60.0
"""So long a pod of a restore that has failed may take to end."""
Pods: TypeAlias = dict[str, dict[str, Any]]
_OURS = {None: "unknown", False: "no", True: "yes"}
HEADER = ("REVISION", "KEYS", "SIZE", "ETCD", "THIS CLUSTER", "SHA-256")


@click.group()
def etcd() -> None:
    """The cluster's state, which etcd keeps."""


etcd.add_command(members)
etcd.add_command(remove_member)


@etcd.group()
def snapshot() -> None:
    """All of etcd at one moment, in one file; etcdctl and etcdutl read it too.

    It holds the Secrets of the cluster as etcd has them, and not its certificates: keep /etc/kubernetes/pki with it.
    """


@snapshot.command()
@click.argument("file", type=_FILE)
@pass_options
@shows_failures
def save(options: ClusterOptions, file: Path) -> None:
    """Write a snapshot to FILE, whole or not at all, and check it."""
    cluster, file = options.open(), file.absolute()
    check_replaceable(file)
    server = url("https", cluster.settings.loopback, ETCD_CLIENT_PORT).removeprefix("https://")
    found = save_snapshot(server, cluster.places.pki, file, partial(_parse, cluster, file))
    click.echo(f"saved revision {found.revision} ({found.keys} keys, {found.size} bytes) in {file}")
    if not found.of_cluster:
        click.echo("it does not hold the cluster's authority yet: a restore would refuse it", err=True)


@snapshot.command()
@click.argument("file", type=_FILE)
@format_option("table", "json", "yaml")
@pass_options
@shows_failures
def status(options: ClusterOptions, file: Path, output: str) -> None:
    """Check FILE and say what is in it; exit status 1 where it cannot be restored as this cluster."""
    cluster = options.open()
    found = _read(cluster, file)
    problem = _problem(cluster, found)
    if output == "table":
        row = (str(found.revision), str(found.keys), str(found.size), found.version)
        print_table(HEADER, [(*row, _OURS[found.of_cluster], found.sha256)])
    else:
        print_value({**dataclasses.asdict(found), "problem": problem}, output)
    if problem:
        raise Failure(f"cannot restore {file} here: {problem}", FAILED)


@snapshot.command()
@click.argument("file", type=_FILE)
@click.option("--force", is_flag=True, help="Also where etcd has data; they are kept beside.")
@click.option("--timeout", "timeout_s", type=click.IntRange(1), default=300, show_default=True, help="Seconds.")
@pass_options
@shows_failures
def restore(options: ClusterOptions, file: Path, force: bool, timeout_s: int) -> None:
    """Make etcd's data of FILE: the cluster is again what it was when that was saved.

    The certificates have to be those of the cluster, so put /etc/kubernetes/pki back first (`longshore restore` does),
    and the agent has to run. All is checked before anything changes. With --force a control plane that is there is
    stopped, and started again afterwards; without one run `longshore up --control-plane` next. What has changed since
    the snapshot is lost.
    """
    cluster, target, file = options.open(), options.target, file.absolute()
    _check(cluster, file)
    if others := working_others(cluster):
        fix = "it would be a second cluster; longshore down there first, and join them again afterwards"
        raise Failure(f"cannot restore {file}: etcd has members that work on {', '.join(others)}: {fix}")
    with _alone(cluster):
        work = Restore(cluster.places, cluster.files)
        if cluster.places.etcd_data.exists() and not (force or work.was_cut_off):
            fix = "with --force they are kept beside and a control plane that runs is stopped meanwhile"
            raise Failure(f"cannot restore {file}: etcd has data in {cluster.places.etcd_data}; {fix}")
        if not target.agent_status():
            raise Failure(f"cannot restore {file}: the agent does not run, and etcdutl is run by it", UNREACHABLE)
        wait = Waiter(target, cluster.settings.node_name, time.monotonic() + timeout_s)
        try:
            kept = _make_data(cluster, work, file, wait)
        finally:
            _clear(work, wait)
    if kept is not None:
        click.echo(f"what etcd had is kept in {kept}")
    click.echo(f"restored {file}; next: longshore up --control-plane")


def _make_data(cluster: Cluster, work: Restore, file: Path, wait: Waiter) -> Path | None:
    """Where the data are kept that were there.  Raises Failure, ControlPlaneError."""
    work.end()
    work.put_manifests_aside(COMPONENTS[1:])
    wait("the API server and its clients to be gone", lambda pods: not pods.keys() - {ETCD})  # quick while it has etcd
    work.put_manifests_aside(COMPONENTS)
    wait("etcd to be gone", lambda pods: not pods)
    for line in port_obstacles(listening(), runs_ours=False):
        if f" of {ETCD}:" in line:
            raise Failure(f"cannot restore {file}: {line}")
    work.begin(cluster.settings, file)
    wait("etcdutl to make the data", _is_made)
    kept = work.put_in_place()
    cluster.remember(any_release=True)  # not before: they may not be the cluster's
    return kept


def _clear(work: Restore, wait: Waiter) -> None:
    """What is half made goes, once nobody writes it any more, and the manifests come back.

    Raises ControlPlaneError.
    """
    try:
        work.end_pod()
        wait.for_s(_CLEAR_S)("the pod of the restore to be gone", lambda pods: POD not in pods)
    except Failure as failure:
        click.echo(failure.message, err=True)
    finally:
        work.end()
        work.put_manifests_back()


@contextlib.contextmanager
def _alone(cluster: Cluster) -> Iterator[None]:
    try:
        with locked_directory(cluster.places.kubernetes_dir):
            yield
    except LockHeldError as error:
        raise Failure(f"cannot restore: another restore is at work: {error}") from None


def _check(cluster: Cluster, file: Path) -> None:
    """Raises Failure, ControlPlaneError."""
    if problem := _problem(cluster, _read(cluster, file)):
        raise Failure(f"cannot restore {file}: {problem}; nothing was changed")


def _read(cluster: Cluster, file: Path) -> Snapshot:
    try:
        with file.open("rb") as opened:
            return _parse(cluster, file, opened.fileno())
    except OSError as error:
        raise ControlPlaneError(f"cannot read {file}: {error.strerror}") from None


def _parse(cluster: Cluster, file: Path, descriptor: int) -> Snapshot:
    """Raises ControlPlaneError."""
    pem = None
    if (cluster.places.pki / "ca.crt").exists():
        pem = certificate_pem(cluster.pki.authority().certificate)
    try:
        if not os.fstat(descriptor).st_size:
            raise ControlPlaneError("it is empty")
        return read_snapshot(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ), pem)
    except ControlPlaneError as error:
        raise ControlPlaneError(f"cannot use {file}: {error}; nothing was changed") from None


def _problem(cluster: Cluster, found: Snapshot) -> str:
    pki = cluster.places.pki
    if found.of_cluster is None:
        return f"nobody can tell of which cluster it is without {pki / 'ca.crt'}; put {pki} back from a backup first"
    if not found.of_cluster:
        return f"it is of another cluster: it does not hold the authority {pki / 'ca.crt'}"
    return version_problem(found, cluster.settings.image(ETCD))


def _is_made(pods: Pods) -> bool:
    """Raises Failure."""
    done, problem = outcome(pods.get(POD))
    if problem:
        raise Failure(f"cannot make data of the snapshot: etcdutl says: {problem}")
    return done


class Waiter:
    """Waits for the static pods of a control plane and of a restore, up to a moment of the monotonic clock."""

    def __init__(self, target: Target, node_name: str, deadline_s: float) -> None:
        self._target = target
        self._node_name = node_name
        self._names = {f"{name}-{node_name}": name for name in (*COMPONENTS, POD)}
        self._deadline_s = deadline_s

    def for_s(self, longest_s: float) -> Waiter:
        """The same, which has so long from now on."""
        return Waiter(self._target, self._node_name, time.monotonic() + longest_s)

    def __call__(self, what: str, condition: Callable[[Pods], bool]) -> None:
        """`condition` gets the status of each of these pods that is there. Raises Failure."""
        click.echo(f"waiting for {what}")
        while not condition(pods := self._pods()):
            if time.monotonic() > self._deadline_s:
                why = f": {reason}" if (reason := delay(pods.get(POD))) else ""
                fix = "see longshore pods, and run this again"
                raise Failure(f"cannot wait for {what} any longer{why}; {fix}", UNREACHABLE)
            time.sleep(_EVERY_S)

    def _pods(self) -> Pods:
        found = self._target.agent("/v1/pods").get("pods", [])
        return {
            self._names[pod_name(one)]: one["pod"].get("status") or {} for one in found if pod_name(one) in self._names
        }
