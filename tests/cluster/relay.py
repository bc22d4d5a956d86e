"""The only ways between a node's network namespace and the control plane on this machine's loopback: a relay from the
node to the API server, which can be cut and opened, and a road for the API server to the nodes.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from pathlib import Path

from tests.kernel.netlab import Namespace

_PORT = 6443


class _Pump(threading.Thread):
    """Takes connections on a listener and joins each with another one that `reach` opens."""

    def __init__(self, listener: socket.socket) -> None:
        super().__init__(daemon=True)
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._listener = listener
        self._listener.listen(64)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._peers: dict[socket.socket, socket.socket] = {}
        self._open = True
        self.start()

    def reach(self, client: socket.socket) -> socket.socket:
        """The other end for this client.  Raises OSError."""
        raise NotImplementedError

    def cut(self) -> None:
        """End every connection; new ones are taken and ended at once."""
        self._tell(b"c")

    def mend(self) -> None:
        """Let connections through again."""
        self._tell(b"o")

    def close(self) -> None:
        """End everything."""
        self._tell(b"x")
        self.join()
        for one in (self._listener, self._wake, self._woken):
            one.close()
        self._selector.close()

    def run(self) -> None:
        """Until closed."""
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._woken:
                    order = self._woken.recv(1)
                    self._open = order == b"o"
                    if not self._open:
                        while self._peers:
                            self._end(next(iter(self._peers)))
                    if order == b"x":
                        return
                elif key.fileobj is self._listener:
                    self._accept()
                else:
                    assert isinstance(key.fileobj, socket.socket)
                    self._pass_on(key.fileobj)

    def _tell(self, order: bytes) -> None:
        self._wake.send(order)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        try:
            if not self._open:
                raise ConnectionRefusedError
            server = self.reach(client)
        except OSError:
            client.close()
            return
        for one, other in ((client, server), (server, client)):
            self._peers[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _pass_on(self, source: socket.socket) -> None:
        if source not in self._peers:
            return  # ended in this very turn
        data = b""
        with contextlib.suppress(OSError):
            data = source.recv(1 << 16)
            self._peers[source].sendall(data)
        if not data:
            self._end(source)

    def _end(self, one: socket.socket) -> None:
        other = self._peers.pop(one, None)
        for each in (one, other):
            if each is not None:
                self._peers.pop(each, None)
                with contextlib.suppress(KeyError):
                    self._selector.unregister(each)
                each.close()


class Relay(_Pump):
    """Listens on 127.0.0.1:6443 of `namespace` and passes bytes to `port` of this machine."""

    def __init__(self, namespace: Namespace, port: int) -> None:
        """To be made where the control plane listens: a thread stays in the network namespace it was started in."""
        self._port = port
        listener = namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", _PORT))
        super().__init__(listener)

    @property
    def url(self) -> str:
        """As a daemon in the namespace reaches it."""
        return f"https://127.0.0.1:{_PORT}"

    def reach(self, client: socket.socket) -> socket.socket:
        """The API server."""
        return socket.create_connection(("127.0.0.1", self._port))


class Road(_Pump):
    """The API server's egress to nodes: HTTP CONNECT on a unix socket, from inside the node's namespace."""

    def __init__(self, namespace: Namespace, path: Path) -> None:
        self._namespace = namespace
        self._path = path
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
        super().__init__(listener)

    def reach(self, client: socket.socket) -> socket.socket:
        """Whom the client names."""
        client.settimeout(30)
        head = b""
        while b"\r\n\r\n" not in head:
            data = client.recv(4096)
            if not data:
                raise ConnectionResetError
            head += data
        host, _, port = head.split()[1].decode().rpartition(":")
        client.settimeout(None)
        server = self._namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            server.connect((host, int(port)))
        except OSError:
            server.close()
            raise
        client.sendall(b"HTTP/1.1 200 Connection Established\r\n\r\n")
        return server

    def close(self) -> None:
        """End everything; the socket is gone."""
        super().close()
        self._path.unlink(missing_ok=True)
