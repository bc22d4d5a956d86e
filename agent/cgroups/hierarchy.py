"""Where cgroups lie on this machine, and how one is made and set there. I/O, but for the readers of texts.

Before: values.py has computed files and texts.  Next: the kernel.  v1: a hierarchy per controller, made only where
something is to be set (the runtime makes the rest).  v2: one hierarchy, whose controllers are switched on level by
level.  Sources: cgroups(7), proc_pid_mountinfo(5), Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping

# What pods need switched on below, as the kubelet's library does.
_WANTED = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids")
_NO_LIMIT_V1 = 1 << 62  # v1 shows a huge number where there is no limit
_OPTIONAL = frozenset({"hugetlb", "pids"})  # a kernel without them can limit no such thing


class CgroupError(Exception):
    """A cgroup could not be made, set or removed; the text names it and the cause. Worth trying again."""


def read_mountinfo() -> str:
    """The text of /proc/self/mountinfo."""
    with open("/proc/self/mountinfo") as file:
        return file.read()


def hierarchies(mountinfo: str) -> tuple[str, ...]:
    """Mount points of all cgroup hierarchies (each v1 controller, and v2).

    A mount point seen twice, or one of only a part of a hierarchy (root other than "/"), counts once or not at all.
    """
    return tuple(dict.fromkeys(place for place, _, _ in _mounts(mountinfo)))


def controller_places(mountinfo: str) -> dict[str, str]:
    """Controller -> mount point of its v1 hierarchy, and "" -> that of the unified one."""
    places: dict[str, str] = {}
    for place, kind, options in _mounts(mountinfo):
        for name in ("",) if kind == "cgroup2" else options.split(","):
            places.setdefault(name, place)
    return places


def _mounts(mountinfo: str) -> Iterable[tuple[str, str, str]]:
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        parts, kind = fields.split(" "), rest.split(" ")
        if kind[0] in ("cgroup", "cgroup2") and len(parts) > 4 and parts[3] == "/":
            yield parts[4], kind[0], kind[2] if len(kind) > 2 else ""


def write_v1(places: Mapping[str, str], name: str, files: Iterable[tuple[str, str, str]]) -> None:
    """Make the cgroup `name` where files are to be written, and write them. Raises CgroupError."""
    for controller, file, text in files:
        if controller in places:
            _make(places[controller] + name)
            _write(places[controller] + name, file, text)
        elif controller not in _OPTIONAL and not file.startswith("?"):
            raise CgroupError(f"cannot set {file} of cgroup {name}: this machine has no cgroup controller {controller}")


def write_v2(mount_point: str, name: str, files: Iterable[tuple[str, str, str]]) -> None:
    """Make the cgroup `name`, with every controller on down to it, and write its files. Raises CgroupError."""
    path = mount_point
    for part in name.strip("/").split("/"):
        _switch_on(path)
        path = f"{path}/{part}"
        _make(path)
    there = _read(f"{path}/cgroup.controllers").split()
    for controller, file, text in files:
        if controller in there or controller not in _OPTIONAL:
            _write(path, file, text)


def read_limits(version: int, name: str) -> tuple[int, int]:
    """CPU quota (microseconds) and memory limit (bytes) of a cgroup; -1 for none, and for what cannot be read."""
    places = controller_places(read_mountinfo())
    if version == 2:
        path = places.get("", "") + name
        quota, memory = _read(f"{path}/cpu.max").split(" ")[0], _read(f"{path}/memory.max")
    else:
        quota = _read(f"{places.get('cpu', '')}{name}/cpu.cfs_quota_us")
        memory = _read(f"{places.get('memory', '')}{name}/memory.limit_in_bytes")
    limit = int(memory) if memory.strip().isdigit() else -1
    return (int(quota) if quota.strip().isdigit() else -1), (-1 if limit >= _NO_LIMIT_V1 else limit)


def _make(path: str) -> None:
    try:
        os.makedirs(path, 0o755, exist_ok=True)
    except OSError as error:
        raise CgroupError(f"cannot make cgroup {path}: {error.strerror}") from error


def _write(path: str, file: str, text: str) -> None:
    optional = file.startswith("?")
    target = f"{path}/{file.removeprefix('?')}"
    try:
        opened = os.open(target, os.O_WRONLY | os.O_CLOEXEC)  # to create one is refused in other words than ENOENT
        try:
            os.write(opened, text.encode())
        finally:
            os.close(opened)
    except FileNotFoundError as error:
        if not optional:
            raise CgroupError(f"cannot write {target}: {error.strerror}") from error
    except OSError as error:
        raise CgroupError(f"cannot write {text} to {target}: {error.strerror}") from error


def _switch_on(path: str) -> None:
    on = _read(f"{path}/cgroup.subtree_control").split()
    there = _read(f"{path}/cgroup.controllers").split()
    for controller in _WANTED:
        if controller in there and controller not in on:
            with contextlib.suppress(CgroupError):  # if it is needed, the file that is missing below says so
                _write(path, "cgroup.subtree_control", f"+{controller}")


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""
