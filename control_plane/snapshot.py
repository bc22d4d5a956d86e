"""What a snapshot of etcd is, and whether it may be restored here.  Pure.

Before: `etcd_client` has saved it, or a person brings one.  Next: `cli.etcd` shows it, `etcd_restore` has etcdutl make
data of it.  A snapshot is the database with the SHA-256 of it behind; etcdctl's and etcdutl's are the same.
"""

from __future__ import annotations

import hashlib
import mmap
import re
from dataclasses import dataclass

from control_plane.bolt import Bolt
from control_plane.errors import ControlPlaneError

_DIGEST = hashlib.sha256().digest_size
_SECTOR = 512
_KEYS, _META = b"key", b"meta"
_STORAGE_VERSION = b"storageVersion"
_OLDER = "3.5"
"""What a database says nothing of its version in."""
_TAG = re.compile(r":v?(\d+)\.(\d+)\.")


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """`revision`: etcd's newest in it; `keys`: revisions of keys that it holds; `size` in bytes, without the digest.

    `version` is that of the storage, such as 3.6. `of_cluster`: it holds the authority that was asked for; None where
    none was.
    """

    revision: int
    keys: int
    size: int
    version: str
    sha256: str
    of_cluster: bool | None


def read_snapshot(data: bytes | mmap.mmap, authority_pem: bytes | None) -> Snapshot:
    """Check all of it. Raises ControlPlaneError for a file that is cut off, damaged, or no snapshot.

    Each namespace holds the cluster's authority (ConfigMap kube-root-ca.crt), and so does the database.
    """
    size = len(data) - _DIGEST
    if size < _SECTOR or size % _SECTOR:
        raise ControlPlaneError("it is cut off, or no snapshot: its length is not that of a database with its digest")
    view = memoryview(data)
    try:
        digest = hashlib.sha256(view[:size]).digest()
        if digest != bytes(view[size:]):
            raise ControlPlaneError("it is damaged: its SHA-256 is not the one at its end")
        bolt = Bolt(view[:size])
        keys, meta = bolt.bucket(_KEYS), bolt.bucket(_META)
        if keys is None or meta is None:
            raise ControlPlaneError("it is no database of etcd: it has no bucket key or no bucket meta")
        version = dict(bolt.items(meta)).get(_STORAGE_VERSION, _OLDER.encode()).decode(errors="replace")
        return Snapshot(
            revision=int.from_bytes(bolt.last(keys)[:8], "big"),
            keys=bolt.count(keys),
            size=size,
            version=".".join(version.split(".")[:2]),
            sha256=digest.hex(),
            of_cluster=None if authority_pem is None else data.find(authority_pem.strip()) >= 0,
        )
    finally:
        view.release()


def version_problem(snapshot: Snapshot, image: str) -> str:
    """Why the etcd of an image cannot run what is in the snapshot, "" when it can or its tag does not say.

    etcd takes over the storage of its own minor release and of the one before.
    """
    tag = _TAG.search(image.rpartition("/")[2])
    if tag is None:
        return ""
    major, minor = int(tag[1]), int(tag[2])
    theirs = tuple(int(part) for part in snapshot.version.split(".") if part.isdigit())
    if theirs in ((major, minor), (major, minor - 1)):
        return ""
    return f"it is of etcd {snapshot.version}, and {image} runs {major}.{minor}"
