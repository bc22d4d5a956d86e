"""A volume that is a claim to storage, together with the storage it was found bound to.  Pure.

Before: `agent/cluster/claim_keeper` finds what the claims of an API server's pod are bound to.  Next:
`agent/volumes/plan` and `mounts` take it as a volume like any other.  It never leaves the agent: the API shows the
claim.
"""

from __future__ import annotations

import msgspec
from lightkube.models import core_v1

HOST_PATH, LOCAL, NFS = "hostPath", "local", "nfs"


class Storage(msgspec.Struct, frozen=True, kw_only=True):
    """What a PersistentVolume is on this node. `kind` is one of the three above.

    `path` is the node's own, or what the `server` exports; `path_type` is a hostPath's, `mount_options` an export's; to
    `group_id` the pod's processes have to belong.
    """

    kind: str
    path: str
    path_type: str = ""
    server: str = ""
    read_only: bool = False
    group_id: int | None = None
    mount_options: tuple[str, ...] = ()


class BoundVolume(core_v1.Volume):
    """`bound` is the storage; as str why there is none; None while nobody knows."""

    bound: Storage | str | None = None


def storage_group(volume: core_v1.Volume) -> int | None:
    """The group that processes need for what is stored there, None where nobody says one."""
    bound = volume.bound if isinstance(volume, BoundVolume) else None
    return bound.group_id if isinstance(bound, Storage) else None


def is_read_only(volume: core_v1.Volume) -> bool:
    """Whether all containers may only read what is stored there, whatever their mounts say."""
    if isinstance(volume, BoundVolume):
        return isinstance(volume.bound, Storage) and volume.bound.read_only
    return volume.nfs is not None and bool(volume.nfs.readOnly)
