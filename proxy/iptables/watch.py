"""Did somebody else change our rules of iptables?  I/O on sockets only, no program is started, never blocks.

Before: `proxy.iptables.engine` opens the watch of the variant in use.  Next: `touched()` true makes it read the tables
again.  iptables-nft has the events of `proxy.nft_events`.  iptables-legacy has none: there the number of entries and
the size of each table are asked for, two system calls.
"""

from __future__ import annotations

import ctypes
import socket
import struct

from proxy.backend import BackendError
from proxy.iptables.model import BUILT_IN, is_own_chain
from proxy.nft_events import FAMILIES, NftWatch, Watch, attributes_of, text_of

_DEL_TABLE, _NEW_CHAIN, _DEL_CHAIN, _NEW_RULE, _DEL_RULE = 2, 3, 5, 6, 8


def open_watch(variant: str, family: int) -> Watch:
    """The watch for a variant; raises BackendError where the kernel refuses the sockets."""
    try:
        return NftWatch(family, concerns_iptables) if variant == "nft" else LegacyWatch(family)
    except OSError as cause:
        raise BackendError(f"cannot watch iptables-{variant}: {cause.strerror}") from cause


def concerns_iptables(kind: int, body: bytes) -> bool:
    """Does it tell of a change to our chains of iptables, or of a removal from a built-in chain?  Pure."""
    if kind not in (_DEL_TABLE, _NEW_CHAIN, _DEL_CHAIN, _NEW_RULE, _DEL_RULE):
        return False
    attributes = attributes_of(body)
    if text_of(attributes.get(1, b"")) not in ("nat", "filter"):
        return False
    if kind == _DEL_TABLE:
        return True
    chain = text_of(attributes.get(3 if kind in (_NEW_CHAIN, _DEL_CHAIN) else 2, b""))
    return is_own_chain(chain) or (chain in BUILT_IN and kind in (_DEL_CHAIN, _DEL_RULE))


class LegacyWatch:
    """Compares the counters the kernel keeps for each table."""

    _GET_INFO = 64
    _INFO = struct.Struct("=32s13I")

    def __init__(self, family: int) -> None:
        self._level = socket.IPPROTO_IP if family == 4 else socket.IPPROTO_IPV6
        self._socket = socket.socket(FAMILIES[family], socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW)
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._known = self._info()
        self._foreign = False

    def pause(self) -> None:
        """Nothing to do: `resume` makes us look in any case."""

    def resume(self, commits: int) -> None:
        """What the tables are now may be our own, or what somebody made of it who waited for the lock behind us."""
        self._foreign = True

    def touched(self) -> bool:
        """Did a table grow or shrink?  A rule replaced by one of equal size is left to the slow resync."""
        now = self._info()
        touched = now != self._known or self._foreign
        self._known, self._foreign = now, False
        return touched

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _info(self) -> tuple[tuple[int, ...], ...]:
        return tuple(self._table(name) for name in (b"filter", b"nat"))

    def _table(self, name: bytes) -> tuple[int, ...]:
        # struct ipt_getinfo: the name goes in through the buffer the answer comes back in, which Python's own
        # getsockopt cannot do.
        buffer = ctypes.create_string_buffer(self._INFO.pack(name, *[0] * 13), self._INFO.size)
        size = ctypes.c_uint32(self._INFO.size)
        failed = self._libc.getsockopt(self._socket.fileno(), self._level, self._GET_INFO, buffer, ctypes.byref(size))
        if failed:
            return (-ctypes.get_errno(),)
        return self._INFO.unpack(buffer.raw)[1:]
