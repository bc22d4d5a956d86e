"""Which user ids of the machine a pod with `hostUsers: false` has as its own: 65536 of them, no two pods the same. I/O.

Before: `execute` is about to make the sandbox. Next: the runtime maps them. The range is a file in the pod's directory,
written before the sandbox is made and gone when the pod is over, so that neither a crash nor a restart gives it twice.
Source: KEP-127; the file is the kubelet's.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from agent.container_spec.facts import SpecError
from agent.volumes.pod_files import make_dirs
from daemonkit.files import remove_durably, write_atomic

LENGTH = 65536
FILE = "userns"


class _Mapping(msgspec.Struct, rename="camel"):
    host_id: int
    container_id: int
    length: int


class _Ranges(msgspec.Struct, rename="camel"):
    uid_mappings: list[_Mapping]
    gid_mappings: list[_Mapping]


class UserRanges:
    """The ranges of all pods below `root_dir`; at most `max_pods` of them, the first above the machine's own ids."""

    def __init__(self, root_dir: str) -> None:
        self._pods = Path(root_dir, "pods")

    def claim(self, uid: str, max_pods: int) -> int:
        """The first id of the pod's range, the same each time. Raises SpecError, OSError."""
        own = _first_id(self._pods / uid / FILE)
        if own is not None:
            return own
        taken = {_first_id(path) for path in self._pods.glob(f"*/{FILE}")}
        free = next((number for number in range(1, max_pods + 1) if number * LENGTH not in taken), None)
        if free is None:
            raise SpecError(f"cannot give pod {uid} a range of user ids: all {max_pods} are taken")
        mapping = _Mapping(host_id=free * LENGTH, container_id=0, length=LENGTH)
        make_dirs(str(self._pods / uid), str(self._pods.parent))
        write_atomic(self._pods / uid / FILE, msgspec.json.encode(_Ranges([mapping], [mapping])))
        return free * LENGTH

    def holds(self, uid: str) -> bool:
        """Whether the pod has a range."""
        return os.path.lexists(self._pods / uid / FILE)

    def release(self, uid: str) -> None:
        """Give it back: nothing of the pod runs any more. Raises OSError."""
        remove_durably(self._pods / uid / FILE)


def _first_id(path: Path) -> int | None:
    """None where there is no file. One that cannot be read must not be given again to somebody else."""
    try:
        ranges = msgspec.json.decode(path.read_bytes(), type=_Ranges)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise SpecError(f"cannot read the range of user ids in {path}: {error}") from error
    first = ranges.uid_mappings[0].host_id if ranges.uid_mappings else 0
    if first < LENGTH or first % LENGTH:
        raise SpecError(f"cannot use the range of user ids in {path}: it begins at {first}")
    return first
