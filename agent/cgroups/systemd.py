"""Slices of the systemd driver: made, set and stopped through systemd's manager on the message bus. I/O.

Before: values.py has computed the properties.  Next: systemd makes the cgroup and keeps the settings over a reload of
its own.  Imported only where there are slices to make or to stop.  Sources: org.freedesktop.systemd1(5),
systemd.slice(5).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Iterable, Sequence

from agent.cgroups.hierarchy import CgroupError
from agent.shutdown.bus import Bus, BusError, open_bus

_NAME = "org.freedesktop.systemd1"
_PATH = "/org/freedesktop/systemd1"
_MANAGER = "org.freedesktop.systemd1.Manager"
_ACCOUNTING = ("CPUAccounting", "MemoryAccounting", "TasksAccounting")
_log = logging.getLogger(__name__)

Property = tuple[str, tuple[str, object]]


@contextlib.asynccontextmanager
async def _manager(what: str) -> AsyncIterator[Bus]:
    try:
        async with open_bus() as bus:
            yield bus
    except BusError as error:
        raise CgroupError(f"cannot {what}: systemd: {error}") from error


async def set_slices(slices: Iterable[tuple[str, Sequence[Property]]], cgroup_version: int) -> None:
    """Have each slice started with its properties; one that is there gets them anew. Raises CgroupError.

    One that is about to be stopped is not started: that would take back the shutdown of the machine.
    """
    io_accounting = "IOAccounting" if cgroup_version == 2 else "BlockIOAccounting"
    async with _manager("set the slices of pods") as bus:
        for name, properties in slices:
            whole: list[Property] = [
                ("Description", ("s", f"Kubernetes pods ({name})")),
                ("Wants", ("as", [parent_slice(name)])),
                ("DefaultDependencies", ("b", False)),
                *((one, ("b", True)) for one in (*_ACCOUNTING, io_accounting)),
                *properties,
            ]
            try:
                await bus.call(
                    _NAME, _PATH, _MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))", name, "fail", whole, []
                )
            except BusError:  # most likely it is there; if not, this says why
                await bus.call(_NAME, _PATH, _MANAGER, "SetUnitProperties", "sba(sv)", name, True, list(properties))


async def stop_slices(names: Iterable[str]) -> None:
    """Let systemd forget slices. One that it does not know, or no bus, is no obstacle: the cgroups go all the same."""
    try:
        async with _manager("stop the slices of a pod") as bus:
            for name in names:
                await bus.call(_NAME, _PATH, _MANAGER, "StopUnit", "ss", name, "replace")
    except CgroupError as error:
        _log.warning("%s", error)


def parent_slice(name: str) -> str:
    """The slice that `a-b-c.slice` lies in: `a-b.slice`; the root's is `-.slice`."""
    head, dash, _ = name.removesuffix(".slice").rpartition("-")
    return f"{head}.slice" if dash else "-.slice"
