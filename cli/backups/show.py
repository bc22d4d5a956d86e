"""Reads the file of a backup and shows what it holds. I/O: one file, stdout.

Before: `cli.backup --verify` and `cli.restore` have the name of a file. Next: `archive` checks it.
"""

from __future__ import annotations

import stat

import click
import msgspec

from cli.backups.archive import (
    MAX_PACKED_BYTES,
    ArchiveError,
    Entry,
    Inventory,
    parse_archive,
)
from cli.failure import Failure
from cli.output import print_table, print_value

ARCHIVE = click.Path(dir_okay=False, allow_dash=True)
_FORMATS = {"file": stat.S_IFREG, "directory": stat.S_IFDIR, "symlink": stat.S_IFLNK}


def read_archive(file: str) -> tuple[Inventory, dict[str, bytes]]:
    """A backup, every byte of it checked; "-" is stdin. Raises Failure."""
    name = "standard input" if file == "-" else file
    try:
        with click.open_file(file, "rb") as stream:
            data = stream.read(MAX_PACKED_BYTES + 1)
    except OSError as error:
        raise Failure(f"cannot read {name}: {error.strerror}") from None
    if len(data) > MAX_PACKED_BYTES:
        raise Failure(f"cannot read {name}: larger than any backup ({MAX_PACKED_BYTES >> 20} MiB)")
    try:
        return parse_archive(data)
    except ArchiveError as error:
        raise Failure(f"cannot read {name}: {error}; take another backup of this node") from None


def print_inventory(inventory: Inventory, output: str) -> None:
    """What an archive holds, to stdout."""
    if output != "table":
        print_value(msgspec.to_builtins(inventory), output)
        return
    click.echo(
        f"node {inventory.node}, {inventory.created}, longshore {inventory.longshore}, format {inventory.format}"
    )
    print_table(("MODE", "OWNER", "SIZE", "SHA-256", "PATH"), [_row(one) for one in inventory.entries])
    for note in (*(f"{path} was not there" for path in inventory.absent), *inventory.notes):
        click.echo(note)


def _row(entry: Entry) -> tuple[str, str, str, str, str]:
    owner = f"{entry.user or entry.uid}:{entry.group or entry.gid}"
    mode = stat.filemode(_FORMATS[entry.kind] | entry.mode)
    size = str(entry.size) if entry.kind == "file" else ""
    return mode, owner, size, entry.sha256[:12], entry.path + (f" -> {entry.target}" if entry.target else "")
