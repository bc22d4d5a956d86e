"""HTTP on a unix socket: the local APIs of the daemons and who reads them.

Served by the agent and the proxy, read by the proxy and the CLI. The only module of daemonkit that imports aiohttp.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
from aiohttp import web

_MAX_PATH_BYTES = 107  # unix(7): sun_path holds 108 bytes with its closing zero

# A watch never ends by itself, so its handler is always waited for in full when a daemon stops.
_LAST_ANSWERS_S = 0.1


class SocketInUseError(RuntimeError):
    """Another process already serves the socket."""


@contextlib.asynccontextmanager
async def serve_unix(app: web.Application, path: Path, mode: int = 0o600) -> AsyncIterator[None]:
    """Serve the application on the socket as long as the context lasts.

    A socket that nobody listens on any more is replaced; one that somebody does raises SocketInUseError. The file never
    exists with wider rights than `mode`. Raises OSError where it cannot be made.
    """
    listener, inode = _listen(path, mode)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=_LAST_ANSWERS_S)
    try:
        await runner.setup()
        await web.SockSite(runner, listener).start()
        yield
    finally:
        await runner.cleanup()
        listener.close()
        _remove_own(path, inode)


def unix_session(path: Path, *, timeout_s: float | None = None) -> aiohttp.ClientSession:
    """A session whose relative URLs ("/v1/pods") go to the socket. `timeout_s` bounds a whole request; None: no bound.

    To be called in a running loop; the caller closes it.
    """
    timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=5.0)
    connector = aiohttp.UnixConnector(path=str(path))
    return aiohttp.ClientSession("http://localhost", connector=connector, timeout=timeout)


def _listen(path: Path, mode: int) -> tuple[socket.socket, int]:
    temporary = path.with_name(f".{path.name}.new")
    if len(os.fsencode(temporary)) > _MAX_PATH_BYTES:
        raise OSError(f"cannot listen on {path}: a socket's path has at most {_MAX_PATH_BYTES - 5} bytes")
    _refuse_live(path)
    temporary.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        listener.bind(str(temporary))
        temporary.chmod(mode)
        listener.listen(128)
        inode = temporary.stat().st_ino
        temporary.rename(path)
    except OSError as error:
        listener.close()
        temporary.unlink(missing_ok=True)
        raise OSError(error.errno, f"cannot listen on {path}: {error.strerror}") from error
    except BaseException:
        listener.close()
        temporary.unlink(missing_ok=True)
        raise
    return listener, inode


def _remove_own(path: Path, inode: int) -> None:
    """Remove the socket, unless somebody has put another in its place."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_ino == inode:
            path.unlink()


def _refuse_live(path: Path) -> None:
    if path.exists() and not path.is_socket():
        raise FileExistsError(f"cannot listen on {path}: it exists and is not a socket")
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    with probe:
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return
        except BlockingIOError:
            pass  # its backlog is full: somebody lives there
    raise SocketInUseError(f"cannot listen on {path}: another process serves it")
