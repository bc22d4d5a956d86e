"""`longshore restore`: a node comes back as itself from what `longshore backup` wrote.

Before: `cli.backups.show` reads the file and `cli.backups.archive` checks it. Next: `cli.backups.install` puts it in
place. Effects: writes below the directories of the backup, or shows what it holds.
"""

from __future__ import annotations

import os
import socket
from importlib.metadata import version
from pathlib import Path

import click

from agent.state_dir import LAYOUT_VERSION
from cli.backups.archive import ControlPlane, Inventory
from cli.backups.control_plane import RESTORE, held_back
from cli.backups.install import Report, install
from cli.backups.show import ARCHIVE, print_inventory, read_archive
from cli.failure import Failure
from cli.output import format_option
from daemonkit.release import release


@click.command()
@click.argument("file", type=ARCHIVE)
@click.option(
    "--root",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default="/",
    show_default=True,
    help="Restore below this directory, for example a disk that is mounted there.",
)
@click.option("--list", "only_list", is_flag=True, help="Check the backup and list what it holds; change nothing.")
@click.option("--force", is_flag=True, help="Also the backup of another node, or of a newer longshore.")
@click.option(
    "--node-name", help="The name of this node (the agent's --hostname-override).  [default: the host's name]"
)
@format_option("table", "json", "yaml")
def restore(file: str, root: Path, only_list: bool, force: bool, node_name: str | None, output: str) -> None:
    """Put a node's configuration, manifests and state back from FILE; - is stdin.

    The agent must be stopped. The whole of FILE is checked before anything changes. What is replaced is kept beside the
    new file as NAME.before-restore. A restore that was cut off is completed by the next one.
    """
    inventory, contents = read_archive(file)
    if only_list:
        print_inventory(inventory, output)
        return
    root = root.resolve()
    _check_layout(inventory)
    if not force:
        _check_version(inventory)
        _check_node(inventory, node_name or _host_name(root))
    inventory, contents, waiting = held_back(inventory, contents, root)
    _report(install(inventory, contents, root, os.path.basename(file)), inventory, root)
    if waiting is not None:
        _report_waiting(waiting)


def _check_layout(inventory: Inventory) -> None:
    if inventory.layout > LAYOUT_VERSION:
        message = f"its state has layout {inventory.layout}, this longshore knows {LAYOUT_VERSION}"
        raise Failure(f"cannot restore: {message}; install longshore {inventory.longshore} first")


def _check_version(inventory: Inventory) -> None:
    ours = version("longshore")
    if release(inventory.longshore) > release(ours):
        message = f"the backup is of longshore {inventory.longshore}, this is {ours}"
        raise Failure(f"cannot restore: {message}; install that version first, or restore all the same with --force")


def _check_node(inventory: Inventory, here: str | None) -> None:
    if here is not None and inventory.node != here:
        message = f"the backup is of node {inventory.node}, this is {here}"
        effect = f"without its name its pods count as new ones and run again; name this machine {inventory.node}"
        raise Failure(f"cannot restore: {message}; {effect} (or see --node-name), or restore all the same with --force")


def _host_name(root: Path) -> str | None:
    """What an agent calls the node by itself; None where that cannot be told of another root."""
    if root == Path("/"):
        return socket.gethostname().strip().lower()
    try:
        return (root / "etc/hostname").read_text().strip().lower() or None
    except (OSError, UnicodeError):
        return None


def _report(report: Report, inventory: Inventory, root: Path) -> None:
    if report.completed:
        click.echo("a restore that was cut off is now complete")
    for old, kept in report.kept.items():
        click.echo(f"{old}: what was there is kept as {kept.name}")
    for path in inventory.absent:
        click.echo(f"{path} is not in the backup")
    click.echo(f"node {inventory.node}: {len(report.written)} files restored, {len(report.unchanged)} were the same")
    if root == Path("/"):
        click.echo("now: systemctl daemon-reload; systemctl restart longshore-agent longshore-proxy")


def _report_waiting(plane: ControlPlane) -> None:
    click.echo(f"etcd has no data here, so the control plane's manifests wait in {plane.aside}")
    if plane.snapshot:
        click.echo(f"then: {RESTORE} {plane.snapshot}")
    else:
        click.echo(f"then: {RESTORE} with a snapshot of etcd; the backup has none")
