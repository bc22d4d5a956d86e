"""One proxy per network namespace, whatever its directories: two would undo each other's rules.  I/O.

Before: `proxy.daemon` starts, to run or to clean up.  Next: everything else.  The lock is an abstract unix socket
(unix(7)), which lives in the network namespace as the rules do and is gone with its last descriptor.  The programs we
run inherit it (`proxy.programs`): after a kill -9 the next proxy starts when the last of them has ended, so
that no restore of the past can write behind its back.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import struct
import time
from collections.abc import Iterator

_log = logging.getLogger(__name__)
_NAME = "\0longshore-proxy"
_ORPHAN_WAIT_S = 30.0
_POLL_S = 0.02
_MAX_ASKED = 4096  # each refused start stays in the queue, since nobody accepts
_CREDENTIALS = struct.Struct("=iII")


class AlreadyRunningError(Exception):
    """Another proxy, or a program that a dead one started, works in this network namespace."""


@contextlib.contextmanager
def only_one() -> Iterator[None]:
    """Hold the lock; raises AlreadyRunningError naming the holder, or OSError."""
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with lock:
        _take(lock)
        lock.set_inheritable(True)
        yield


def _take(lock: socket.socket) -> None:
    """Bind the name, or wait for the programs of a dead holder."""
    deadline_s = time.monotonic() + _ORPHAN_WAIT_S
    told = False
    while not _bind(lock):
        if not told:
            told = True
            holder = _holder()
            if holder is None:
                continue  # it went in between
            pid, uid = holder
            if uid != 0:
                # Everybody may take the name; only root can have started a proxy.
                _log.warning("process %d of user %d holds our lock; going on without it", pid, uid)
                return
            if _lives(pid):
                message = f"process {pid} is longshore-proxy in this network namespace already; stop it first"
                raise AlreadyRunningError(f"cannot run: {message}")
            _log.info("waiting for the last iptables program of longshore-proxy %d, which is dead", pid)
        if time.monotonic() > deadline_s:
            raise AlreadyRunningError(
                f"cannot run: a program that a dead longshore-proxy started still runs after {_ORPHAN_WAIT_S:g} s; "
                "find it with: ss -xlp 'src = @longshore-proxy'"
            )
        time.sleep(_POLL_S)


def _bind(lock: socket.socket) -> bool:
    try:
        lock.bind(_NAME)
        lock.listen(_MAX_ASKED)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return False
    return True


def _holder() -> tuple[int, int] | None:
    """Process and user that made the lock, also when only an heir of it is left; None when nobody has it any more."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(_NAME)
        except ConnectionRefusedError:
            return None
        except BlockingIOError:
            raise AlreadyRunningError(
                "cannot run: longshore-proxy runs in this network namespace already; stop it first"
            ) from None
        pid, uid, _ = _CREDENTIALS.unpack(probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        return pid, uid


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
