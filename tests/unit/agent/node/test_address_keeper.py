"""The node's addresses follow those of the machine."""

from __future__ import annotations

import ipaddress
import logging
from dataclasses import dataclass, field

import pytest

from agent.node import facts
from agent.node.address_keeper import AddressKeeper
from agent.node.addresses import Interface
from tests.unit.agent.node.test_facts import Settings


@dataclass
class Machine:
    """Its interface's addresses, and what the node has been told."""

    present: tuple[str, ...] = ("192.0.2.1",)
    addresses: tuple[str, ...] = ("192.0.2.1",)
    settings: Settings = field(default_factory=lambda: Settings(node_ip="0.0.0.0"))

    def take(self, addresses: tuple[str, ...]) -> None:
        self.present = addresses


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()

    def read() -> tuple[Interface, ...]:
        return (Interface("eth0", tuple(map(ipaddress.ip_address, made.addresses))),)

    monkeypatch.setattr(facts, "read_interfaces", read)
    return made


def keeper_of(machine: Machine) -> AddressKeeper:
    return AddressKeeper(lambda: machine.settings, lambda: machine.present, machine.take, lambda: 10.0)


async def test_another_address_is_taken_and_one_that_is_gone_is_kept_until_then(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    keeper = keeper_of(machine)
    machine.addresses = ("192.0.2.1", "192.0.2.2")
    await keeper.look()
    assert not caplog.records
    machine.addresses = ()
    await keeper.look()
    await keeper.look()
    assert [one.message for one in caplog.records] == [
        "the node stays at 192.0.2.1: this machine has no address that others could reach"
    ]
    machine.addresses = ("192.0.2.2",)
    await keeper.look()
    assert machine.present == ("192.0.2.2",)
    assert caplog.records[-1].message == "the node's addresses are 192.0.2.2 now, no longer 192.0.2.1"


async def test_an_address_that_was_asked_for_is_never_another(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    keeper = keeper_of(machine)
    machine.settings = Settings(node_ip="192.0.2.1")
    machine.addresses = ("192.0.2.2",)
    await keeper.look()
    assert machine.present == ("192.0.2.1",)
    assert "no interface of this host has it" in caplog.text
    machine.settings = Settings(node_ip="192.0.2.1,2001:db8::1")
    machine.addresses = ("192.0.2.1", "2001:db8::1")
    await keeper.look()
    assert list(machine.present) == ["192.0.2.1", "2001:db8::1"]
