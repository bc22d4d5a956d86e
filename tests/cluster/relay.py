"""Stands between a node's network namespace and the control plane on this machine's loopback; can be cut and opened."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading

from tests.kernel.netlab import Namespace

_PORT = 6443


class Relay(threading.Thread):
    """Listens on 127.0.0.1:6443 of `namespace` and passes bytes to `port` of this machine."""

    def __init__(self, namespace: Namespace, port: int) -> None:
        """To be made where the control plane listens: a thread stays in the network namespace it was started in."""
        super().__init__(daemon=True)
        self._port = port
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._listener = namespace.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", _PORT))
        self._listener.listen(64)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._peers: dict[socket.socket, socket.socket] = {}
        self._open = True
        self.start()

    @property
    def url(self) -> str:
        """As a daemon in the namespace reaches it."""
        return f"https://127.0.0.1:{_PORT}"

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
        server = socket.socket()
        try:
            if not self._open:
                raise ConnectionRefusedError
            server.connect(("127.0.0.1", self._port))
        except OSError:
            client.close()
            server.close()
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
