"""What logind says, without logind."""

from __future__ import annotations

import pytest

from agent.shutdown.logind_messages import (
    BUS,
    LOGIND,
    MANAGER,
    LogindMoved,
    ShutdownAhead,
    describe_delay,
    lacks_delay,
    parse_signal,
    render_drop_in,
)


@pytest.mark.parametrize(
    ("interface", "member", "body", "meaning"),
    [
        (MANAGER, "PrepareForShutdown", (True,), ShutdownAhead(True)),
        (MANAGER, "PrepareForShutdown", (False,), ShutdownAhead(False)),
        (MANAGER, "PrepareForShutdown", (1,), None),
        (MANAGER, "PrepareForShutdown", (), None),
        (MANAGER, "PrepareForSleep", (True,), None),
        ("org.example.Manager", "PrepareForShutdown", (True,), None),
        (BUS, "NameOwnerChanged", (LOGIND, ":1.2", ""), LogindMoved(False)),
        (BUS, "NameOwnerChanged", (LOGIND, "", ":1.9"), LogindMoved(True)),
        (BUS, "NameOwnerChanged", (LOGIND, ":1.2", ":1.9"), LogindMoved(True)),
        (BUS, "NameOwnerChanged", ("org.example", ":1.2", ""), None),
        (BUS, "NameAcquired", (":1.3",), None),
        ("", "", (), None),
    ],
)
def test_signals(interface: str, member: str, body: tuple[object, ...], meaning: object) -> None:
    assert parse_signal(interface, member, body) == meaning


def test_a_delay_that_is_long_enough_is_left_alone() -> None:
    assert lacks_delay(5_000_000, 30.0)
    assert lacks_delay(30_000_000, 30.2)
    assert not lacks_delay(30_000_000, 30.0)
    assert not lacks_delay(2**64 - 1, 30.0), "infinity"


def test_the_drop_in_and_what_is_said_when_it_does_not_help() -> None:
    assert render_drop_in(30.2).endswith("\n[Login]\nInhibitDelayMaxSec=31\n")
    assert "99-longshore.conf" in describe_delay(5_000_000, 30.0)
    assert describe_delay(5_000_000, 30.0).startswith("logind waits 5 s (InhibitDelayMaxSec), the pods may take 30 s")
