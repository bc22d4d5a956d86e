"""The control plane that a command is about: options, what the last run remembers, what this machine says. I/O.

Before: `longshore up`, `down` and `control-plane` have parsed their options. Next: their phases, in `control_plane`. An
option beats what was remembered, and that beats the default.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from cli.failure import Failure
from cli.target import Target
from control_plane.errors import ControlPlaneError
from control_plane.files import Files, failure
from control_plane.kubeconfigs import Kubeconfigs
from control_plane.pki import CertificateState, Pki
from control_plane.record import Record
from control_plane.settings import (
    DEFAULT_ETCD_DIR,
    DEFAULT_KUBERNETES_DIR,
    ClusterSettings,
    Places,
    SettingsError,
    check_settings,
)
from control_plane.upgrade import step_problem

F = TypeVar("F", bound=Callable[..., Any])
_PATH = click.Path(path_type=Path)
SOON = datetime.timedelta(days=30)
"""A certificate that lives no longer is told of."""
_DEFAULTS = {field.name: field.default for field in dataclasses.fields(ClusterSettings)}

kubernetes_dir_option = click.option(
    "--kubernetes-dir",
    type=_PATH,
    default=DEFAULT_KUBERNETES_DIR,
    envvar="LONGSHORE_KUBERNETES_DIR",
    show_default=True,
    help="Directory of pki/ and of the kubeconfigs.",
)


def _remembered(name: str, text: str, *, default: str = "") -> Callable[[F], F]:
    shown = default or _DEFAULTS[name]
    return click.option(f"--{name.replace('_', '-')}", name, help=f"{text}  [default: {shown}]")


node_ip_option = click.option(
    "--node-ip",
    help="The node's own address, or one of each family with a comma between (the agent's --node-ip)."
    "  [default: that of the default route]",
)
_OPTIONS = (
    _remembered("node_name", "This node's name.", default="as the agent says, else the host's"),
    _remembered("advertise_address", "Where others reach the API server.", default="that of the default route"),
    _remembered("service_cidr", "Addresses of Services; of both families with a comma between."),
    _remembered("pod_cidr", "Addresses of pods, of the same families; each node gets a part."),
    _remembered("dns_domain", "The cluster's domain."),
    _remembered("kubernetes_version", "Tag of the control plane's images."),
    _remembered("image_repository", "Where the images come from."),
    _remembered("etcd_image", "The whole name of etcd's image.", default="IMAGE_REPOSITORY/etcd:3.6.8-0"),
    node_ip_option,
    _remembered("control_plane_endpoint", "HOST:PORT of all API servers together.", default="none"),
    click.option("--cert-san", "cert_sans", multiple=True, help="One more name or address of the API server."),
    click.option("--etcd-dir", type=_PATH, help=f"Directory of etcd's data.  [default: {DEFAULT_ETCD_DIR}]"),
    kubernetes_dir_option,
)


def cluster_options(command: F) -> F:
    """All options that make a cluster; the command gets them as keywords."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True)
class Cluster:
    """One control plane and who reads and writes its files."""

    settings: ClusterSettings
    places: Places
    files: Files
    pki: Pki
    kubeconfigs: Kubeconfigs

    def with_settings(self, **changed: Any) -> Cluster:
        """The same with other settings."""
        return dataclasses.replace(self, settings=dataclasses.replace(self.settings, **changed))

    def remember(self, *, any_release: bool = False) -> None:
        """The settings are from now on those of the cluster. Raises ControlPlaneError, also for a release that may not
        follow the one before, but for `any_release`.
        """
        before, wanted = self.files.record.settings.get("kubernetes_version"), self.settings.kubernetes_version
        if before and not any_release and (problem := step_problem(str(before), wanted)):
            raise ControlPlaneError(f"cannot take {wanted}: {problem}; see longshore control-plane upgrade plan")
        value = {
            **dataclasses.asdict(self.settings),
            "cert_sans": list(self.settings.cert_sans),
            "manifest_dir": str(self.places.manifest_dir),
            "etcd_dir": str(self.places.etcd_dir),
        }
        record = self.files.record
        try:
            record.remember(value)
        except OSError as error:
            raise failure("write", record.path, error) from None


def open_cluster(target: Target, options: Mapping[str, Any]) -> Cluster:
    """Raises Failure."""
    directory = Path(options["kubernetes_dir"]).absolute()
    with failures():
        record = Record(directory)
        known: dict[str, Any] = {**_DEFAULTS, **record.settings}
        known |= {name: value for name, value in options.items() if value not in (None, ())}
        names = [field.name for field in dataclasses.fields(ClusterSettings)]
        wanted = {name: known[name] for name in names}
        if wanted["node_name"] is dataclasses.MISSING:
            wanted["node_name"] = str(target.agent_status().get("nodeName") or socket.gethostname().strip().lower())
        if wanted["advertise_address"] is dataclasses.MISSING:
            wanted["advertise_address"] = _own_address()
        settings = ClusterSettings(**{**wanted, "cert_sans": tuple(wanted["cert_sans"])})
        check_settings(settings)
    manifest_dir = target.manifest_dir or Path(known.get("manifest_dir") or target.pods_dir())
    etcd_dir = Path(known.get("etcd_dir") or DEFAULT_ETCD_DIR).absolute()
    places = Places(kubernetes_dir=directory, manifest_dir=manifest_dir.absolute(), etcd_dir=etcd_dir)
    files = Files(record)
    pki = Pki(places.pki, files, datetime.datetime.now(datetime.UTC))
    return Cluster(settings, places, files, pki, Kubeconfigs(places, files, pki))


@dataclass(frozen=True)
class ClusterOptions:
    """What the group was given; looked up when a command needs it, not for its --help."""

    target: Target
    values: dict[str, Any]

    def open(self) -> Cluster:
        """Raises Failure."""
        return open_cluster(self.target, self.values)


pass_options = click.make_pass_decorator(ClusterOptions)


def all_states(cluster: Cluster) -> Sequence[CertificateState]:
    """Of files and kubeconfigs."""
    return (*cluster.pki.states(cluster.settings), *cluster.kubeconfigs.states(cluster.settings))


@contextlib.contextmanager
def failures() -> Iterator[None]:
    """What `control_plane` says against it ends the command."""
    try:
        yield
    except (ControlPlaneError, SettingsError) as error:
        raise Failure(str(error)) from None


def shows_failures(command: F) -> F:
    """The whole command inside `failures`."""

    @functools.wraps(command)
    def wrapped(*arguments: Any, **keywords: Any) -> Any:
        with failures():
            return command(*arguments, **keywords)

    return cast(F, wrapped)


def _own_address() -> str:
    """As the kubelet chooses it where nobody says."""
    from agent.node.addresses import choose_node_ips, default_route_interfaces
    from agent.node.facts import read_interfaces

    routes = Path("/proc/net/route")
    by_route = default_route_interfaces(routes.read_text() if routes.exists() else "")
    found = choose_node_ips(None, "", (), read_interfaces(), by_route)
    if not found:
        raise Failure("cannot choose an address for the API server: this machine has none; say --advertise-address")
    return found[0]
