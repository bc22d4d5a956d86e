"""Where a program listens that was told an address, as programs in Go understand it."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import pytest

from daemonkit import listening
from daemonkit.listening import listening_socket

needs_ipv6 = pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="no IPv6 in this kernel")


def reaches(host: str, port: int) -> bool:
    with contextlib.suppress(ConnectionRefusedError):
        socket.create_connection((host, port), 30).close()
        return True
    return False


@needs_ipv6
@pytest.mark.parametrize(
    ("address", "by_4", "by_6"),
    [("0.0.0.0", True, True), ("::", True, True), ("127.0.0.1", True, False), ("::1", False, True)],
)
def test_every_address_is_one_of_ipv6_as_well(address: str, by_4: bool, by_6: bool) -> None:
    with listening_socket(address, 0) as listener:
        port = listener.getsockname()[1]
        assert (reaches("127.0.0.1", port), reaches("::1", port)) == (by_4, by_6)


@needs_ipv6
@pytest.mark.parametrize(("address", "by_4", "by_6"), [("0.0.0.0", True, False), ("::", False, True)])
def test_two_families_have_a_listener_each_at_the_same_port(address: str, by_4: bool, by_6: bool) -> None:
    with listening_socket(address, 0, one_family=True) as listener:
        port = listener.getsockname()[1]
        assert (reaches("127.0.0.1", port), reaches("::1", port)) == (by_4, by_6)


def test_a_kernel_without_ipv6_has_every_address_of_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "AF_INET6", 250)  # a family that no kernel knows
    with listening.listening_socket("0.0.0.0", 0) as listener:
        assert listener.family is socket.AF_INET
        assert reaches("127.0.0.1", listener.getsockname()[1])


def test_a_port_that_is_taken_is_refused_and_nothing_stays_open() -> None:
    with listening_socket("127.0.0.1", 0) as listener, pytest.raises(OSError, match="in use"):
        listening_socket("0.0.0.0", listener.getsockname()[1])
