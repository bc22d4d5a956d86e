"""`longshore apply`: put manifests where the daemons find them, after the daemons' own parsers have agreed.

Before: files or stdin. Next: the watch of the agent or of the proxy sees the new file. Effects: writes atomically.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import click

from cli.failure import Failure
from cli.manifests import (
    MANIFEST,
    POD,
    ObjectName,
    directory_of,
    identify,
    node_name,
    read_manifest,
    stored,
    validate,
)
from cli.target import Target, pass_target
from daemonkit.files import write_atomic


@click.command()
@click.option("-f", "--filename", "files", type=MANIFEST, multiple=True, required=True, help="A file; - is stdin.")
@pass_target
def apply(target: Target, files: tuple[str, ...]) -> None:
    """Validate manifests of Pods, ConfigMaps, Secrets, Services and EndpointSlices and hand them to the daemons.

    All of them are validated before the first is written.
    """
    plans: list[tuple[ObjectName, Path, bytes]] = []
    for file in files:
        plans.append(_plan(target, file, plans))
    for name, path, data in plans:
        click.echo(f"{name} {_write(path, data)} ({path})")


def _plan(
    target: Target, file: str, others: Sequence[tuple[ObjectName, Path, bytes]]
) -> tuple[ObjectName, Path, bytes]:
    data, source = read_manifest(file)
    name = identify(data, source)
    directory = directory_of(target, name.kind)
    if not directory.is_dir():
        raise Failure(f"cannot write to {directory}: it is not a directory; create it (mkdir -p {directory})")
    path = _place(directory, name, {path for other, path, _ in others if other != name})
    validate(data, name, path, source, node_name(target) if name.kind == POD else "")
    return name, path, data


def _place(directory: Path, name: ObjectName, promised: Collection[Path]) -> Path:
    """The file that holds the object already, else a new one that is named after it."""
    files = list(stored(directory))
    holders = [file.path for file in files if file.name == name]
    if len(holders) > 1:
        places = " and ".join(str(path) for path in holders)
        raise Failure(f"cannot apply {name}: it is defined in {places}; delete all of them but one")
    if holders:
        return holders[0]
    taken = {*promised, *directory.iterdir()}  # also what nobody can read: it is somebody's
    plain = name.name if name.namespace == "default" else f"{name.namespace}.{name.name}"
    stem = plain if name.kind == POD else f"{plain}.{name.kind}"
    candidates = [directory / f"{stem}.yaml", *(directory / f"{stem}.{number}.yaml" for number in range(1, 100))]
    return next(path for path in candidates if path not in taken)


def _write(path: Path, data: bytes) -> str:
    try:
        known = path.read_bytes() if path.exists() else None
        if known == data:
            return "unchanged"
        if path.is_symlink():  # somebody's arrangement: a file in its place would cut off what it leads to
            raise Failure(f"cannot write {path}: it is a symbolic link to {path.readlink()}; change the file behind it")
        write_atomic(path, data, 0o600)
    except OSError as error:
        raise Failure(f"cannot write {path}: {error.strerror}") from None
    return "created" if known is None else "configured"
