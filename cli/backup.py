"""`longshore backup`: the node's identity, configuration, manifests and state in one file, while its daemons run.

Before: `cli.backups.places`, `cli.backups.snapshot` and `cli.backups.control_plane` look and read. Effects: writes one
file atomically, mode 0600.
"""

from __future__ import annotations

import datetime
import sys
from importlib.metadata import version
from pathlib import Path

import click

from agent.state_dir import LAYOUT_VERSION
from cli.backups.archive import FORMAT, ArchiveError, Inventory, is_within, parse_archive, render_archive
from cli.backups.control_plane import add_control_plane
from cli.backups.places import DEFAULT_CONFIG_DIR, NodePlaces, read_places
from cli.backups.show import ARCHIVE, print_inventory, read_archive
from cli.backups.snapshot import read_snapshot
from cli.cluster import Cluster, failures, kubernetes_dir_option, open_cluster
from cli.failure import Failure
from cli.output import check_replaceable, format_option
from cli.target import Target, pass_target
from control_plane.record import Record
from daemonkit.files import write_atomic

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("file", type=ARCHIVE)
@click.option("--verify", is_flag=True, help="Check the backup FILE instead of making it, and list what it holds.")
@click.option(
    "--config-dir",
    type=_PATH,
    default=DEFAULT_CONFIG_DIR,
    envvar="LONGSHORE_CONFIG_DIR",
    show_default=True,
    help="Directory of the configuration; all of it is taken.",
)
@click.option("--agent-config", type=_PATH, help="The agent's configuration file.  [default: agent.yaml there]")
@click.option("--proxy-config", type=_PATH, help="The proxy's configuration file.  [default: proxy.yaml there]")
@click.option("--node-name", help="The node's name.  [default: as the agent says, else the host's]")
@kubernetes_dir_option
@format_option("table", "json", "yaml")
@pass_target
def backup(
    target: Target,
    file: str,
    verify: bool,
    config_dir: Path,
    agent_config: Path | None,
    proxy_config: Path | None,
    node_name: str | None,
    kubernetes_dir: Path,
    output: str,
) -> None:
    """Write the node's configuration, manifests and state to FILE; - is stdout.

    The daemons may run. Of a node of a cluster its certificates are in it, of a control plane all keys and a snapshot
    of etcd too. What the node's pods have stored is not in it. See `longshore restore`.
    """
    if verify:
        inventory, _ = read_archive(file)
        print_inventory(inventory, output)
        return
    places = read_places(
        target,
        config_dir=config_dir,
        agent_config=agent_config,
        proxy_config=proxy_config,
        node_name=node_name,
        kubernetes_dir=kubernetes_dir,
    )
    if file != "-":
        _check_destination(Path(file), places)
    inventory, archive = _make(places, _cluster(target, kubernetes_dir))
    _write(file, archive)
    where = "standard output" if file == "-" else file
    click.echo(f"node {inventory.node}: {len(inventory.entries)} files and directories in {where}", err=True)
    for path in inventory.absent:
        click.echo(f"{path} is not there and not in the backup", err=True)
    for note in inventory.notes:  # last, so that nobody takes a backup without etcd's data for a whole one
        click.echo(note, err=True)


def _cluster(target: Target, kubernetes_dir: Path) -> Cluster | None:
    with failures():
        is_there = bool(Record(kubernetes_dir.absolute()).settings)
    return open_cluster(target, {"kubernetes_dir": kubernetes_dir}) if is_there else None


def _make(places: NodePlaces, cluster: Cluster | None) -> tuple[Inventory, bytes]:
    shot = read_snapshot(places.roots(), places.root_dir)
    plane = add_control_plane(shot, cluster) if cluster else None
    inventory = Inventory(
        format=FORMAT,
        longshore=version("longshore"),
        layout=LAYOUT_VERSION,
        node=places.node,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        root_dir=str(places.root_dir),
        roots=sorted({str(path) for path in places.roots()} - set(shot.absent)),
        manifest_dirs=[str(path) for path in (places.pod_manifests, places.service_manifests)],
        absent=shot.absent,
        notes=shot.notes,
        control_plane=plane,
        entries=shot.entries,
    )
    if not inventory.entries:
        looked = ", ".join(shot.absent)
        raise Failure(
            f"cannot back up the node: nothing is there of {looked}; say where it is (--root-dir, --config-dir)"
        )
    archive = render_archive(inventory, shot.contents)
    try:
        parse_archive(archive)  # what a restore would refuse is worth nothing later
    except ArchiveError as error:
        raise Failure(f"cannot back up the node: no restore could take it: {error}; nothing was written") from None
    return inventory, archive


def _check_destination(path: Path, places: NodePlaces) -> None:
    real = str(path.parent.resolve() / path.name)
    for root in places.roots():
        if is_within(real, str(root.resolve())):
            raise Failure(f"cannot write {path}: {root} is a part of the backup; write it somewhere else")
    check_replaceable(path, "use - for stdout")


def _write(file: str, archive: bytes) -> None:
    if file != "-":
        try:
            write_atomic(Path(file), archive)
        except OSError as error:
            raise Failure(f"cannot write {file}: {error.strerror}; nothing was changed") from None
        return
    if sys.stdout.isatty():
        raise Failure("cannot write the backup to a terminal; name a file, or send the output to one")
    sys.stdout.buffer.write(archive)
    sys.stdout.buffer.flush()
