"""What commands about a control plane say of files they have made.

Before: `control_plane` has written them.  Next: people read it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

import click

from cli.cluster import Cluster
from control_plane.manifest_files import write_manifests
from control_plane.settings import COMPONENTS


def print_manifests(cluster: Cluster, only: Collection[str] = COMPONENTS) -> None:
    """Write them, and say so. Raises ControlPlaneError."""
    written = write_manifests(cluster.settings, cluster.places, cluster.files, only)
    print_made(written.files)
    for path in written.edited:
        click.echo(f"{path}: stays as it was edited; remove it and run this again to have it made anew")


def print_made(paths: Iterable[Path]) -> None:
    """A line a file."""
    for path in paths:
        click.echo(f"made {path}")
