"""What a backup has of a control plane beside files: a snapshot of etcd, and that its manifests wait for etcd's data.

Before: `snapshot` has read the node's files, or `show` an archive.  Next: one archive is written, or `install` puts it
back.  I/O: asks the etcd of this machine, looks whether it has data.  An API server that started on an empty etcd
would tell all nodes that their pods are gone.
"""

from __future__ import annotations

import posixpath
import time
from pathlib import Path

import msgspec

from cli.backups.archive import MAX_FILE_BYTES, MAX_TOTAL_BYTES, ControlPlane, Entry, Inventory, digest
from cli.backups.snapshot import Snapshot
from cli.cluster import Cluster
from control_plane.errors import ControlPlaneError
from control_plane.etcd_client import snapshot_parts
from control_plane.settings import COMPONENTS, ETCD, ETCD_CLIENT_PORT, url
from control_plane.snapshot import read_snapshot
from control_plane.x509 import certificate_pem

RESTORE = "longshore control-plane etcd snapshot restore"


def add_control_plane(shot: Snapshot, cluster: Cluster) -> ControlPlane | None:
    """Put a snapshot of etcd into `shot`, or a note why there is none; None where no control plane is here."""
    places = cluster.places
    if places.manifest(ETCD) not in cluster.files.record.made:
        return None
    path = str(places.snapshot)
    shot.entries = [entry for entry in shot.entries if entry.path != path]  # of an earlier restore
    shot.contents.pop(path, None)
    saved = ""
    try:
        data = _snapshot(cluster, MAX_TOTAL_BYTES - sum(entry.size for entry in shot.entries))
        entry = Entry(path=path, kind="file", mode=0o600, uid=0, gid=0, size=len(data), sha256=digest(data))
        shot.entries = sorted([*shot.entries, _now(entry)], key=lambda one: one.path)
        shot.contents[path] = data
        saved = path
    except ControlPlaneError as error:
        shot.notes.append(f"etcd's data are not in the backup: {error}; see longshore control-plane etcd snapshot save")
    return ControlPlane(
        etcd_data=str(places.etcd_data),
        aside=str(places.manifests_aside),
        manifests=[str(places.manifest(component)) for component in COMPONENTS],
        snapshot=saved,
    )


def held_back(
    inventory: Inventory, contents: dict[str, bytes], root: Path
) -> tuple[Inventory, dict[str, bytes], ControlPlane | None]:
    """Where etcd has no data below `root`, the manifests go where they wait for a restore of it; the third is then not
    None.
    """
    plane = inventory.control_plane
    if plane is None or not _waits(plane, root):
        return inventory, contents, None
    moved = {path: posixpath.join(plane.aside, posixpath.basename(path)) for path in plane.manifests}
    known = {entry.path for entry in inventory.entries}
    entries = [
        msgspec.structs.replace(entry, path=moved[entry.path]) if entry.path in moved else entry
        for entry in inventory.entries
        if moved.get(entry.path) not in known
    ]
    if plane.aside not in known:
        entries.append(Entry(path=plane.aside, kind="directory", mode=0o700, uid=0, gid=0))
    entries.sort(key=lambda entry: entry.path)
    found = {moved.get(path, path): data for path, data in contents.items()}
    return msgspec.structs.replace(inventory, entries=entries), {**found, **contents}, plane


def _waits(plane: ControlPlane, root: Path) -> bool:
    data, aside = (root / path.lstrip("/") for path in (plane.etcd_data, plane.aside))
    return aside.exists() or not data.exists()


def _snapshot(cluster: Cluster, most: int) -> bytes:
    """Checked as a restore will.  Raises ControlPlaneError."""
    server = url("https", cluster.settings.loopback, ETCD_CLIENT_PORT).removeprefix("https://")
    data = bytearray()
    for part in snapshot_parts(server, cluster.places.pki):
        data += part
        if len(data) > min(most, MAX_FILE_BYTES):
            raise ControlPlaneError(f"they are too large for it (a file may have {MAX_FILE_BYTES >> 20} MiB)")
    found = read_snapshot(bytes(data), certificate_pem(cluster.pki.authority().certificate))
    if not found.of_cluster:
        raise ControlPlaneError("etcd does not hold the cluster's authority yet")
    return bytes(data)


def _now(entry: Entry) -> Entry:
    return msgspec.structs.replace(entry, modified_s=time.time())
