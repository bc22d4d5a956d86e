"""What is mounted where, from the text of mountinfo. Pure.

Before: pod_dir.py reads /proc/self/mountinfo.  Next: our own tmpfs are told from foreign mounts.  Source: proc(5).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class MountPoint:
    """One mount: where it is, the kind of its file system, and which one it is (MAJOR:MINOR): several mounts may share
    it.
    """

    path: str
    fs_type: str
    device: str


def mounts_below(mountinfo: str, directory: str) -> tuple[MountPoint, ...]:
    """The mounts on or below a directory (a real path, without links), deepest last as the kernel lists them."""
    prefix = directory.rstrip("/") + "/"
    found: list[MountPoint] = []
    for line in mountinfo.splitlines():
        before, separator, after = line.partition(" - ")
        fields = before.split(" ")
        if separator and len(fields) > 4:
            path = _OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[4])
            if (path + "/").startswith(prefix):
                found.append(MountPoint(path, after.split(" ", 1)[0], fields[2]))
    return tuple(found)
