"""What the kernel says of the cgroups of this machine, of all pods, of each pod and container.  I/O: in a thread.

Before: `measures` is asked for what the runtime does not measure.  Next: `cgroup_text` reads the texts.  A cgroup that
goes meanwhile is left out.  As with cAdvisor nothing is asked of a runtime here: a container's cgroup lies below its
pod's, and its id is in its name, whatever the driver.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable, Mapping

from agent.cgroups.hierarchy import controller_places, read_mountinfo
from agent.cgroups.names import QOS_PARENTS, CgroupSettings, cgroup_name
from agent.server.node_api.cgroup_text import V1_FILES, V2_FILES, Cgroups, CgroupUse, parse_v1, parse_v2

_BLOCK_DEVICES = "/sys/dev/block"
_CHUNK = 1 << 16
_BESIDE = "crio-conmon-"
_WHO = "cpu"
"""The v1 hierarchy in which every container has its cgroup."""


class CgroupReader:
    """Of one machine; `places` are mount points by controller, that of the unified hierarchy as ""."""

    def __init__(self, version: int, places: Mapping[str, str]) -> None:
        self._version = version
        self._places = places
        self._root = places.get("" if version == 2 else _WHO, "")

    def read(self, settings: CgroupSettings, wanted: Mapping[str, Collection[str]]) -> Cgroups:
        """All there is of these pods and their containers, ids by uid."""
        above: list[CgroupUse] = []
        pods: dict[str, CgroupUse] = {}
        paths: dict[str, str] = {}
        networks: dict[str, str] = {}
        for qos in QOS_PARENTS:
            parent = cgroup_name(settings, *qos)
            there = self._below(parent)
            if there:
                above.append(self.read_one(parent))
            for uid in wanted if there else ():
                name = cgroup_name(settings, *qos, f"pod{uid}")
                if name.rpartition("/")[2] not in there:
                    continue
                pods[uid] = self.read_one(name)
                below = {id_: f"{name}/{one}" for one in self._below(name) if (id_ := container_id(one))}
                paths |= below
                networks[uid] = self._network(below.values())
        containers = {id_: self.read_one(paths[id_]) for ids in wanted.values() for id_ in ids if id_ in paths}
        machine = self.read_one("/")
        uses = (machine, *above, *pods.values(), *containers.values())
        devices = dict(_names({device for use in uses for _, device in use.devices}))
        return Cgroups(machine, tuple(above), pods, containers, paths, networks, devices)

    def read_one(self, path: str) -> CgroupUse:
        """`path` below the mount points, "/" for the root; without numbers where there is no such cgroup."""
        below, now_s = path.rstrip("/"), time.time()
        if self._version == 2:
            directory = self._root + below
            return parse_v2(path, _texts((directory, name) for name in V2_FILES), now_s)
        files = (
            (self._places[controller] + below, name)
            for controller, names in V1_FILES.items()
            if controller in self._places
            for name in names
        )
        return parse_v1(path, _texts(files), now_s)

    def _below(self, path: str) -> frozenset[str]:
        try:
            with os.scandir(self._root + path) as found:
                return frozenset(one.name for one in found if one.is_dir(follow_symlinks=False))
        except OSError:
            return frozenset()

    def _network(self, cgroups: Iterable[str]) -> str:
        """Seen by the first process that is still there."""
        for path in cgroups:
            for pid in _read(f"{self._root}{path}/cgroup.procs").split()[:1]:
                if text := _read(f"/proc/{pid}/net/dev"):
                    return text
        return ""


def open_reader(version: int) -> CgroupReader:
    """For this machine.  Raises OSError."""
    return CgroupReader(version, controller_places(read_mountinfo()))


def container_id(name: str) -> str:
    """Of a cgroup: `<id>`, or systemd's `cri-containerd-<id>.scope`; "" for that of CRI-O's own program beside it."""
    return "" if name.startswith(_BESIDE) else name.removesuffix(".scope").rpartition("-")[2]


def _texts(files: Iterable[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for directory, name in files:
        if text := _read(f"{directory}/{name}"):
            found[name] = text
    return found


def _read(path: str) -> str:
    """ "" where it cannot be read; without the cost of a file object, as there are thousands."""
    try:
        opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        text = b""
        while more := os.read(opened, _CHUNK):  # the kernel may give a page at a time
            text += more
        return text.decode()
    except (OSError, UnicodeDecodeError):
        return ""
    finally:
        os.close(opened)


def _names(numbers: Iterable[str]) -> Iterable[tuple[str, str]]:
    for number in numbers:
        try:
            yield number, "/dev/" + os.path.basename(os.readlink(f"{_BLOCK_DEVICES}/{number}"))
        except OSError:
            continue
