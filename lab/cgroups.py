"""Finding, killing and removing cgroups, v1 hierarchies and v2 alike. I/O.

Before: a cgroup path as a daemon or runc chose it. Next: nothing; `lab.host` and the demo call this last.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from lab.machine import PATIENCE_S, LabError

_MOUNTS = Path("/proc/self/mountinfo")


def hierarchies() -> tuple[Path, ...]:
    """Mount points of every cgroup hierarchy, v1 and v2."""
    found: list[Path] = []
    for line in _MOUNTS.read_text().splitlines():
        left, _, right = line.partition(" - ")
        if right.split(" ", 1)[0] in ("cgroup", "cgroup2"):
            found.append(Path(left.split(" ")[4]))
    return tuple(dict.fromkeys(found))


def directories(root: Path) -> list[Path]:
    """`root` and every cgroup below it, deepest first; empty when there is none."""
    return [Path(where) for where, _, _ in os.walk(root, topdown=False)]


def processes(cgroup: str) -> set[int]:
    """Process ids in `cgroup` (a path starting with a slash) and below it, in any hierarchy."""
    pids: set[int] = set()
    for top in hierarchies():
        for directory in directories(top / cgroup.lstrip("/")):
            with contextlib.suppress(OSError):
                pids.update(int(pid) for pid in (directory / "cgroup.procs").read_text().split())
    return pids


def of_processes(pids: Iterable[int]) -> set[str]:
    """The cgroup paths those processes are in, without the root."""
    paths: set[str] = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
                paths.add(line.split(":", 2)[2])
    return paths - {"/"}


def kill_and_remove(cgroup: str, *, timeout_s: float = PATIENCE_S) -> None:
    """Remove `cgroup` and all below it in every hierarchy, after SIGKILL to what still runs there.

    LabError when something stays in it past the deadline.
    """
    if cgroup.strip("/") == "":
        raise LabError("cannot remove the cgroup /: it is the root")
    deadline = time.monotonic() + timeout_s
    while True:
        for pid in processes(cgroup):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        tops = [top / cgroup.lstrip("/") for top in hierarchies()]
        for top in tops:
            for directory in directories(top):
                _remove(directory)
        left = [top for top in tops if top.exists()]
        if not left:
            return
        if time.monotonic() > deadline:
            raise LabError(f"cannot remove the cgroup {left[0]}: still in use by {sorted(processes(cgroup))}")
        time.sleep(0.02)


def remove_empty(paths: Iterable[str]) -> None:
    """Remove those cgroups where nothing is in them any more, and containerd's own /k8s.io above them; what is in use
    stays.
    """
    for path in paths:
        for top in hierarchies():
            directory = top / path.lstrip("/")
            if _remove(directory) and directory.parent == top / "k8s.io":
                _remove(directory.parent)


def _remove(directory: Path) -> bool:
    try:
        directory.rmdir()
    except OSError:
        return False
    return True
