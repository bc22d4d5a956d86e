"""The static pods' manifests as files; one that a person has edited stays. I/O.

Before: the table `control_plane.manifests`. Next: the agent sees the files and runs the pods.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import yaml

from control_plane.errors import ControlPlaneError
from control_plane.files import Content, Files
from control_plane.manifests import MORE_TRUSTED, Json, manifests
from control_plane.settings import COMPONENTS, ETCD, JOINING, ClusterSettings, Places


@dataclass(frozen=True)
class Written:
    """`files` were made or changed; `edited` were left as a person has made them."""

    files: tuple[Path, ...]
    edited: tuple[Path, ...]


def write_manifests(
    settings: ClusterSettings, places: Places, files: Files, only: Collection[str] = COMPONENTS
) -> Written:
    """Make the files of these components so. Raises ControlPlaneError where one is somebody else's, or etcd waits for
    its data or for other members.
    """
    if places.manifests_aside.exists():
        raise ControlPlaneError(f"cannot write the static pods: {waiting_problem(places)}")
    if ETCD in only and settings.etcd_cluster == JOINING:
        fix = "longshore up --control-plane goes on with that"
        raise ControlPlaneError(f"cannot write {places.manifest(ETCD)}: etcd has not joined the others yet; {fix}")
    trusted = [path for path in MORE_TRUSTED if path.is_dir()]
    wanted: dict[Path, Content] = {}
    edited = []
    for component, pod in manifests(settings, places, trusted).items():
        if component not in only:
            continue
        path, content = places.manifest(component), Content(render_manifest(pod))
        files.check_free(path, content.data)
        there = files.read(path)
        if there is None or there == content.data or files.record.wrote(path, there):
            wanted[path] = content
        else:
            edited.append(path)
    files.make_data_directory(places.etcd_dir, places.etcd_data)
    return Written(files.write(wanted), tuple(edited))


def waiting_problem(places: Places) -> str:
    """What to say where the manifests wait for a restore of etcd."""
    aside = places.manifests_aside
    fix = "longshore control-plane etcd snapshot restore FILE completes it"
    without = f"to begin with what {places.etcd_dir} holds, move the manifests from there back and remove the directory"
    return f"{aside} holds those of a restore of etcd that is not through; {fix}; {without}"


def render_manifest(pod: Json) -> bytes:
    """YAML."""
    return yaml.safe_dump(pod, sort_keys=False, width=10_000).encode()
