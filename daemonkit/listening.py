"""Listening sockets for the addresses that configurations name, as Go's programs understand them.  I/O.

Before: a configuration.  Next: whoever serves.  To a program in Go 0.0.0.0 is every address of the machine, those of
IPv6 as well: a node whose only address is one of IPv6 is reached with the defaults.  Source: Go, package net, Listen.
"""

from __future__ import annotations

import contextlib
import socket

_ANY, _ANY6 = "0.0.0.0", "::"  # what the configuration says
_KIND = socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
_BACKLOG = 128


def listening_socket(address: str, port: int, *, one_family: bool = False) -> socket.socket:
    """One that listens; `address` is one of IPv4 or IPv6, and stands for no other kind where it is for `one_family`.
    Raises OSError.
    """
    listener, host = _unbound(address, one_family=one_family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if host == _ANY6 or (one_family and listener.family == socket.AF_INET6):
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(one_family))
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _unbound(address: str, *, one_family: bool) -> tuple[socket.socket, str]:
    if address == _ANY and not one_family:
        with contextlib.suppress(OSError):  # a kernel without IPv6
            return socket.socket(socket.AF_INET6, _KIND), _ANY6
    return socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, _KIND), address
