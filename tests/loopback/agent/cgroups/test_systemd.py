"""What the systemd driver asks of systemd, on a real message bus with a stand-in for systemd's manager."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from jeepney import HeaderFields, Message, new_error, new_method_return

from agent.cgroups.hierarchy import CgroupError
from agent.cgroups.systemd import set_slices
from lab.message_bus import StandInLogind, private_bus

_ERROR = "org.freedesktop.systemd1"


class StandInSystemd(StandInLogind):
    """Starts slices and sets them; `stopping` has a stop job each, which a start in mode "replace" would take back."""

    stopping: set[str]
    started: list[str]
    changed: list[str]

    def _answer(self, message: Message) -> None:
        member: str = message.header.fields[HeaderFields.member]
        name, mode = message.body[:2]
        if member == "SetUnitProperties" and name in self.started:
            self.changed.append(name)
            reply = new_method_return(message)
        elif member == "SetUnitProperties":
            reply = new_error(message, f"{_ERROR}.NoSuchUnit", "s", (f"Unit {name} not loaded.",))
        elif name in self.started:
            reply = new_error(message, f"{_ERROR}.UnitExists", "s", (f"Unit {name} was already loaded.",))
        elif name in self.stopping and mode == "fail":
            reply = new_error(message, f"{_ERROR}.TransactionIsDestructive", "s", ("it has a stop job",))
        else:
            self.stopping.discard(name)
            self.started.append(name)
            reply = new_method_return(message, "o", ("/job",))
        self._connection.send(reply)


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInSystemd]:
    if shutil.which("dbus-daemon") is None:
        pytest.skip("dbus-daemon is not installed")
    with private_bus(tmp_path) as address:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
        with StandInSystemd(address, tmp_path) as stand_in:
            stand_in.stopping, stand_in.started, stand_in.changed = set(), [], []
            yield stand_in


async def test_a_slice_is_started_once_and_then_changed(systemd: StandInSystemd) -> None:
    weight = ("CPUWeight", ("t", 100))
    for _ in range(2):
        await set_slices([("kubepods.slice", [weight])], 2)
    assert (systemd.started, systemd.changed) == (["kubepods.slice"], ["kubepods.slice"])


async def test_a_slice_that_is_being_stopped_is_not_started_again(systemd: StandInSystemd) -> None:
    """That would take back the shutdown of the machine, whose part the stop is."""
    systemd.stopping.add("kubepods.slice")
    with pytest.raises(CgroupError, match=r"kubepods\.slice not loaded"):
        await set_slices([("kubepods.slice", [])], 2)
    assert (systemd.started, systemd.stopping) == ([], {"kubepods.slice"})
