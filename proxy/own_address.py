"""Is this one of the node's addresses?  Asks the kernel's routing table; one message on a netlink socket.

Before: `proxy.conntrack` judges flows to node ports, `longshore proxy explain` a client.  Next: the kernel.  (To bind
to the address would tell as well, but not where net.ipv4.ip_nonlocal_bind is set.)
Numbers: include/uapi/linux/rtnetlink.h.
"""

from __future__ import annotations

import socket
import struct

_NETLINK_ROUTE = 0
_GET_ROUTE, _NEW_ROUTE = 26, 24
_REQUEST = 1
_HEADER = struct.Struct("=IHHII")
_MESSAGE = struct.Struct("=8BI")
"""struct rtmsg: family, length of the destination, ..., the last byte is the type of the route; then flags."""
_ATTRIBUTE = struct.Struct("=HH")
_DESTINATION = 1
_LOCAL = 2


def is_own_address(address: str) -> bool:
    """True when packets to it are delivered here.  `address` is IPv4 or IPv6; false for what is neither."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        packed = socket.inet_pton(family, address)
        return _route_type(family, packed) == _LOCAL
    except OSError:
        return False


def _route_type(family: int, packed: bytes) -> int:
    body = _MESSAGE.pack(family, len(packed) * 8, 0, 0, 0, 0, 0, 0, 0)
    body += _ATTRIBUTE.pack(_ATTRIBUTE.size + len(packed), _DESTINATION) + packed
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_ROUTE) as kernel:
        kernel.settimeout(1.0)
        kernel.send(_HEADER.pack(_HEADER.size + len(body), _GET_ROUTE, _REQUEST, 1, 0) + body)
        answer = kernel.recv(4096)
    if _HEADER.unpack_from(answer)[1] != _NEW_ROUTE:
        return 0  # an error: nothing leads there
    return answer[_HEADER.size + 7]
